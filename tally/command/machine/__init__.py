"""``tally up``: a whole cluster on this machine, each process of its own.

    up                   the command
    run                  the order in which things start and end, and what is said about them
    programs, remembered, addresses   which programs, on which ports: the same at the next run
    processes, children, lock         processes that are watched, and end with this one

The programs are commands like any other: nothing of gateway or shard is imported.
"""
