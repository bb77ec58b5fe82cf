"""What a slot's events become in its store: keys and values, ops, the op log. Pure."""
