"""Faults of real processes under load, and what each of them costs."""
