"""The cluster as etcd tells it.

keys, config, members, slot_map, state   what stands in etcd, parsed: pure
placement, plan                           who should own what: pure
etcd                                      the one file that talks to etcd
reader, registration, controller          the thin drivers
"""
