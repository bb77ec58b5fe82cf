"""Tally: what gateways and shards share, and the ``tally`` command.

    hashing, event, address, errors   the words of the system: import nothing else of it
    logs, limits, collector           what every process sets up when it starts
    cluster/   the cluster as etcd tells it: map, placement, members, controller
    client/    the routed client: batching writer, coalescing reader
    monitor/   what a monitor is told of a process
    command/   the ``tally`` command

``gateway`` and ``shard`` are built on it; it imports neither. Other programs use HTTP, or the gRPC stubs in ``protos``.
"""

__version__ = "0.1.0"
