"""Tests of the pure parts of the `tally` command."""
