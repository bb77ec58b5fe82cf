"""What an operator does to a running cluster, under load: nothing lost, doubled or stale, and no request failed."""
