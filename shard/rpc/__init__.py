"""What a shard answers over gRPC, and how it reaches the other shards."""
