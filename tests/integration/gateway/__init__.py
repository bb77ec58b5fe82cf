"""The HTTP door over real sockets, with a backend in memory."""
