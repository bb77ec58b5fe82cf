"""RocksDB, the threads that use it, and the directory that it lies in."""
