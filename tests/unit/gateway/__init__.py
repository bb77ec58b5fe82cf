"""Tests of the HTTP door that need no socket."""
