"""All copies of one shard, driven: what comes in, one pass after the other, what goes out."""
