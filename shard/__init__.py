"""One node: it keeps copies of slots, counts what comes in for them, and answers over gRPC.

keys, op, slot_copy     what is stored and how it changes: pure
store, directory        RocksDB, and whose data it is
engine                  the worker: one pass steps all slots that are ready
exchange, analytics     the gRPC services
node                    all of it as one process
"""
