"""One node: it keeps copies of slots, counts what comes in for them, and answers over gRPC.

    keys, op, slot_copy, hour_parts   what is stored, how it changes and what it adds up to: pure
    replica/                          how a slot is copied: pure, not driven yet (ARCHITECTURE, "What comes next")
    store, directory                  RocksDB, and whose data it is
    engine                            the worker: one pass steps all slots that are ready
    exchange, analytics               the gRPC services
    node                              all of it as one process

Nothing in here knows of HTTP.
"""

import os

# gRPC writes lines of its own to stderr, such as at an address in use: what they say is in our errors too. It reads
# this when it is imported, so here is the place; whoever wants those lines sets it to ERROR.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
