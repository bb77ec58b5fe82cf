"""Tally: what gateways and shards share, and what a Python service imports.

hashing, event, config, errors, logs   the words of the system: pure, import nothing else of it
cluster/   the cluster as etcd tells it: map, placement, members, controller
client/    the routed client: batching writer, coalescing reader
command/   the `tally` command
"""
