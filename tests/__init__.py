"""Tests of Tally: unit (pure), integration (real processes), and what they share in support."""
