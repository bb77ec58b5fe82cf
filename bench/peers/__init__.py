"""The systems under test. Each starts its own processes: on free ports, in its own directory, on one core."""
