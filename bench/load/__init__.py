"""What makes the requests, and is pinned to another core than the systems that answer them."""
