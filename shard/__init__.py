"""One node: it keeps copies of slots, counts what comes in for them, and answers over gRPC.

    replica/   the life of one copy of a slot: pure
    counting/  what is stored, and how an op changes it: pure
    clones/    how a copy comes from one shard to another: pure
    storage/   RocksDB, and whose data it is
    engine/    the worker: one pass steps all slots that are ready
    rpc/       the gRPC services, and the ways to the other shards
    settings, figures   what the process is told at its start, and what it tells a monitor
    node       all of it as one process

Each imports only those above it in this list. Nothing in here knows of HTTP.
"""

import os

# gRPC writes lines of its own to stderr, such as at an address in use: what they say is in our errors too. It reads
# this when it is imported, so here is the place; whoever wants those lines sets it to ERROR.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
