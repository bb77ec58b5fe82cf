"""Placement of slots on shards: a pure function of the members and of the map as it stands.

Invariants:
  * the copies of a slot are on distinct shards;
  * no shard has more than one slot, or one copy, above or below its fair share;
  * no shard is primary of more than ``ceil(1.5 * spread / shards)`` cells of any hour, with up to three quarters as
    many shards as slots (beyond that it can not be had);
  * planning on a plan's own result gives nothing more to do;
  * the same members in any order give the same placement.

No clock, no randomness, no I/O: the caller passes everything in. Getting there step by step is left to ``plan.py``.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from tally.cluster.members import Member
from tally.cluster.planning.backups import place_copies
from tally.cluster.planning.primaries import laps, place_primaries
from tally.cluster.slot_map import SlotMap, SlotRow


class Target(NamedTuple):
    """Where the slots are to be.

    Attributes:
        primaries: Slot -> its primary.
        copies: Slot -> all who keep it, the primary among them.
    """

    primaries: tuple[str, ...]
    copies: tuple[frozenset[str], ...]


def first_map(slots: int, members: Mapping[str, Member], copies: int = 1, min_copies: int = 1) -> SlotMap:
    """Place the slots of a new cluster: all copies at once, for all of them are empty.

    Args:
        slots: How many there are.
        members: The shards that share them, at least one.
        copies: How many of each slot, at most as many as there are members.
        min_copies: Below how many a slot takes no writes.

    Returns:
        Rows of epoch 1. The incarnation of a founding copy is its shard's data directory, so a shard whose directory
        was emptied does not take itself for one that has the data.
    """
    assert members
    primaries = laps(slots, sorted(members))
    placed = place_copies(primaries, [()] * slots, members, min(copies, len(members)))
    return SlotMap(
        tuple(
            SlotRow(1, primary, {shard: members[shard].directory for shard in sorted(kept)}, min(min_copies, len(kept)))
            for primary, kept in zip(primaries, placed, strict=True)
        )
    )


def target_of(slot_map: SlotMap, shards: Collection[str], copies: int, spreads: Collection[int]) -> Target:
    """Return where the slots are to be, near to where they are.

    Args:
        slot_map: Who has what, and who is getting it.
        shards: Who is to share the slots, at least one: not those that drain.
        copies: How many of each slot; fewer if there are fewer shards.
        spreads: Into how many cells hours are split.

    Cost: below 50 ms for 256 slots and 16 shards, below a second for 1000 and 40.
    """
    assert shards
    holders = [(*row.in_sync, *slot_map.joining.get(slot, ())) for slot, row in enumerate(slot_map.rows)]
    primaries = place_primaries([row.primary for row in slot_map.rows], holders, shards, spreads)
    placed = place_copies(primaries, holders, shards, min(copies, len(shards)))
    return Target(tuple(primaries), tuple(placed))
