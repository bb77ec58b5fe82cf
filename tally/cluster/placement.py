"""Placement of slots on shards: a pure function of the members.

Invariants:
  * every slot has one primary, and no shard has more than one slot above its share;
  * no shard is primary of more than ``ceil(1.5 * spread / shards)`` cells of any hour,
    with up to three quarters as many shards as slots (beyond that it can not be had);
  * the same members in any order give the same placement.

No clock, no randomness, no I/O: the caller passes everything in. Writing the map is left to the controller.
"""

from collections.abc import Mapping, Sequence

from tally.cluster.members import Member
from tally.cluster.slot_map import SlotMap, SlotRow


def first_map(slots: int, members: Mapping[str, Member]) -> SlotMap:
    """Place the slots of a new cluster in laps round the shards, so that neighbouring slots are on different ones.

    Args:
        slots: How many there are.
        members: The shards that share them, at least one.

    Returns:
        Rows of epoch 1. The incarnation of a founding copy is its shard's data directory, so a shard whose directory
        was emptied does not take itself for one that has the data.
    """
    assert members
    order = _laps(slots, sorted(members))
    return SlotMap(tuple(SlotRow(epoch=1, primary=shard, in_sync={shard: members[shard].directory}) for shard in order))


def _laps(slots: int, shards: Sequence[str]) -> list[str]:
    """Return the primary of each slot.

    Laps of all shards seldom come out even. A short last lap would meet the first one round the end of the ring, and
    bring a shard near itself; so the places too many are left out here and there, of each shard one at most.
    """
    laps = -(-slots // len(shards))
    too_many = laps * len(shards) - slots
    left_out = {(number % laps, number * len(shards) // too_many) for number in range(too_many)}
    return [shard for lap in range(laps) for place, shard in enumerate(shards) if (lap, place) not in left_out]
