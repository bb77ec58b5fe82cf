"""How a copy, or the ops that it missed, comes from one shard to another. Pure."""
