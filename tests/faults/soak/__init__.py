"""The faults of a soak, one file for each group, and what they share."""
