"""The ``tally`` command: ``up``, ``create``, ``status``, ``import``.

    root                        the command line and its subcommands
    machine/                    ``tally up``: a whole cluster on this machine
    importer/                   ``tally import``: events from a file, through a gateway
    create, status, report      the others
    options, streams, tables    what they share

Results go to stdout, complaints to stderr. Exit status: 0 done, 1 not done, 2 wrongly called.
"""
