"""The cluster as etcd tells it.

    keys, config, members, slot_map, state   what stands in etcd, parsed: pure
    rows                                     how a row may change, and what primaries ask for: pure
    etcd, etcd_words                         the one file that talks to etcd, and its words
    creation, reader, registration           the thin drivers; trouble logs an outage once
    local_etcd                               an etcd for one machine
    planning/                                who should own what, and what is done next for that: pure
    controller/                              the one shard that plans, and its calls to the others

Readers and writers of etcd meet only in these values.
"""
