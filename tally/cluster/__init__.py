"""The cluster as etcd tells it.

    keys, config, members, slot_map, state   what stands in etcd, parsed: pure
    rows                                     how a row may change, and what primaries ask for: pure
    placement, primaries, backups, ring      who should own what: pure
    plan, health, failover, moves, progress  what the controller does next, and how far it is: pure
    etcd, etcd_words                         the one file that talks to etcd, and its words
    creation, reader, registration, controller   the thin drivers; trouble logs an outage once
    local_etcd                               an etcd for one machine

Readers and writers of etcd meet only in these values.
"""
