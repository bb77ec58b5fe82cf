"""The controller, and its calls to the shards."""
