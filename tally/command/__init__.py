"""The ``tally`` command.

    root                                the command line and its subcommands
    machine/                            ``up``: a whole cluster on this machine
    importer/                           ``import``: events from a file, through a gateway
    recovery/                           ``recover``: the map, made anew from what the copies have
    create, cluster_config, members     ``create``, ``config``, ``members``
    cluster_secret                      ``secret``
    status, report                      ``status``, and what it shows
    drain, drain_watch                  ``drain``, and how far it is
    give_up, losses                     ``give-up``, and what it costs
    cluster, shards                     what etcd and the shards say, and changing it
    options, slot_list, streams, tables what they share

Results go to stdout, complaints to stderr. Exit status: 0 done, 1 not done, 2 wrongly called.
"""
