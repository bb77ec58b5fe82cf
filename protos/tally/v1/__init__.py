"""Public wire, version 1."""
