"""What a monitor such as Prometheus is told of one process, and where it asks for it.

door       ``GET /metrics`` on a port of its own
loop_lag   how late the event loop is
names      figures of gateway and shard alike
process    both, and what the operating system knows of the process
"""
