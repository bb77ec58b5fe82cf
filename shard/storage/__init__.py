"""RocksDB, the threads that use it, the directory that it lies in, and how full its disk is."""
