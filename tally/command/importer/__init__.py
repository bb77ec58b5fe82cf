"""``tally import``: events from a file, through a gateway, each sent at most once.

    import_file          the command
    source, unpack, rows   bytes as they come, plain or gzip, into requests
    sending, door        requests over many connections, and a gateway that may be away
    progress             the bar, and the rows that failed

Memory does not grow with the file.
"""
