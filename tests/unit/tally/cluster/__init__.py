"""Tests of the pure parts of ``tally.cluster``."""
