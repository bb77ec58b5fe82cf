"""Placement of slots on shards: a pure function of the members.

Invariants:
  * every slot has one primary, and no shard has more than one slot above its share;
  * no shard is primary of more than ``ceil(1.5 * spread / shards)`` cells of any hour;
  * the same members in any order give the same placement.

No clock, no randomness, no I/O: the caller passes everything in. Writing the map is left to the controller.
"""

from collections.abc import Mapping

from tally.cluster.members import Member
from tally.cluster.slot_map import SlotMap, SlotRow


def first_map(slots: int, members: Mapping[str, Member]) -> SlotMap:
    """Place the slots of a new cluster, in stripes: neighbouring slots on different shards.

    Args:
        slots: How many there are.
        members: The shards that share them, at least one.

    Returns:
        Rows of epoch 1. The incarnation of a founding copy is its shard's data directory, so a shard whose directory
        was emptied does not take itself for one that has the data.
    """
    assert members
    shards = sorted(members)
    return SlotMap(
        tuple(
            SlotRow(epoch=1, primary=shard, in_sync={shard: members[shard].directory})
            for shard in (shards[slot % len(shards)] for slot in range(slots))
        )
    )
