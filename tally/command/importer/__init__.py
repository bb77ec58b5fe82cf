"""``tally import``: events from a file, through a gateway, each counted once whatever happens on the way.

    import_file             the command
    source, unpack, rows    bytes as they come, plain or gzip, into requests
    keys, retrying          by what a line is known, and when it is sent again: rules
    sending, door, halt     requests over many connections, until each has its answer or somebody stops it
    progress, summary       the bar, the rows that were refused, and what came of it

Memory does not grow with the file.
"""
