"""Tally: what gateways and shards share, and what a Python service imports.

    hashing, event, address, errors, logs, limits   the words of the system: import nothing else of it
    cluster/   the cluster as etcd tells it: map, placement, members, controller
    client/    the routed client: batching writer, coalescing reader
    command/   the `tally` command

``gateway`` and ``shard`` are built on it; it imports neither.
"""
