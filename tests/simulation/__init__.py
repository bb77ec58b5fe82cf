"""A whole cluster in one thread, on the real core, from a seed: a fake network, fake disks, fake clocks, and faults.

world        time, chance, totals
network      messages between machines: late, lost, repeated, cut off
etcd         a linearizable model: the map, leases, guarded transactions
content      what a slot holds, and how an op is built of sub-batches (PROTOCOL rule 13)
disk         what a machine has flushed
set_backs    disks that came back older, and who can still tell what they lost
machine      a server: its disk and clock outlive its processes
held         what such a process holds: slots, and what waits for its answer
process      one shard's process: drives ``shard.replica.Replica``, one step at a time
controller   the process that holds the controller's key; ``planner`` decides
gateway      the real outboxes and hour reads, over the fake network
clients      writers with and without keys, and readers
ledger       what was sent and acknowledged: the bounds of every read
history      what was committed: one line of ops a slot
faults       what goes wrong, and when
cluster      all of it, and one run of a seed

``python -m tests.simulation --help`` runs seeds; ``--seed N`` tells one of them step by step.
"""
