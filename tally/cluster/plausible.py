"""What a shard may say of itself: what no honest one says is left out before anything is decided by it. Pure."""

from dataclasses import replace
from typing import Final

from tally.cluster.planning.health import ShardHealth
from tally.cluster.slot_map import SlotMap

LEAP_MAX: Final = 2**32
"""So far above what is known here may an epoch, or an opnum, be that another process tells; each is a change more."""


def credible(health: ShardHealth, slot_map: SlotMap | None) -> ShardHealth:
    """Return what a shard said, without the copies that there can't be.

    A copy that has stored an epoch which no row comes up to is of no use, and no sign that the map is an old one: it
    counts as none, and is made anew from the others.
    """
    if slot_map is None:
        return health
    rows = slot_map.rows
    copies = {
        slot: copy
        for slot, copy in health.copies.items()
        if slot < len(rows) and copy.epoch <= rows[slot].epoch + LEAP_MAX
    }
    return health if len(copies) == len(health.copies) else replace(health, copies=copies)
