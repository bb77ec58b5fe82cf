"""The slots in a ring, and whose each is: how near each other the slots of one shard are.

An hour takes ``spread`` neighbouring slots, round the end too. So that it lies on many shards, no shard may have more
than ``ceil(1.5 * spread / shards)`` of any ``spread`` neighbours; what is beyond that is the ``excess``. ``crowd`` is
a softer measure, the lower the further apart the slots of a shard are: it decides between what is allowed, and leaves
room for shards that join or leave later.

Pure.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from typing import Final

_NEAR: Final = 10**6


def cells_allowed(spread: int, shards: int) -> int:
    """Return of how many cells of an hour a shard may be primary: half more than its share."""
    assert shards >= 1
    return -(-3 * spread // (2 * shards))


class Ring:
    """Who has which slot.

    Attributes:
        owners: Slot -> its shard; None for a slot that nobody has yet.
        slots_of: Shard -> its slots, rising.
        crowd: Shard -> slot -> how crowded that slot is by the others of that shard, whoever has it.
        spreads: Into how many cells hours are split.
        low, high: The slots that a shard has when all have their fair share.
    """

    def __init__(self, owners: Sequence[str | None], shards: Iterable[str], spreads: Iterable[int]) -> None:
        """Begin with the owners that are among ``shards``; ``spreads`` are those that hours have."""
        shards, spreads = sorted(shards), set(spreads)
        slots = len(owners)
        self.owners: list[str | None] = [None] * slots
        self.slots_of: dict[str, list[int]] = {shard: [] for shard in shards}
        self.crowd: dict[str, list[int]] = {shard: [0] * slots for shard in shards}
        self.low = slots // len(shards)
        self.high = -(-slots // len(shards))
        self.spreads = tuple(sorted(spreads))
        self._allowed = [(spread, cells_allowed(spread, len(shards))) for spread in self.spreads]
        around = [0, *(self._weight(min(far, slots - far), max(spreads)) for far in range(1, slots))]
        self._weights = around + around
        for slot, owner in enumerate(owners):
            if owner in self.slots_of:
                self.give(slot, owner)

    @staticmethod
    def _weight(distance: int, spread: int) -> int:
        # A step at the spread: two within one hour are much worse than two that are not.
        return _NEAR // distance**2 + (_NEAR if distance < spread else 0)

    def weight(self, one: int, other: int) -> int:
        """Return how much two slots of one shard crowd each other."""
        return self._weights[abs(one - other)]

    def give(self, slot: int, shard: str) -> None:
        """Make a shard the owner of a slot."""
        size = len(self.owners)
        weights = self._weights[size - slot : 2 * size - slot]
        before = self.owners[slot]
        if before is not None:
            del self.slots_of[before][bisect_left(self.slots_of[before], slot)]
            self.crowd[before] = [sum_ - one for sum_, one in zip(self.crowd[before], weights, strict=True)]
        insort(self.slots_of[shard], slot)
        self.crowd[shard] = [sum_ + one for sum_, one in zip(self.crowd[shard], weights, strict=True)]
        self.owners[slot] = shard

    def excess(self) -> int:
        """Return by how much the bound is exceeded, over all shards and hours; 0 if it holds."""
        return sum(self.excess_of(places) for places in self.slots_of.values())

    def excess_of(self, places: list[int]) -> int:
        """Return by how much a shard with these slots, rising, would exceed the bound."""
        size, total = len(self.owners), 0
        for spread, allowed in self._allowed:
            if len(places) > allowed:
                round_the_end = places + [place + size for place in places[:allowed]]
                for at, place in enumerate(places):
                    short = spread - (round_the_end[at + allowed] - place)
                    if short > 0:
                        total += short
        return total

    def excess_with(self, shard: str, *, more: int | None = None, less: int | None = None) -> int:
        """Return the excess of a shard if it got the slot ``more`` and lost ``less``."""
        places = self.slots_of[shard].copy()
        if less is not None:
            del places[bisect_left(places, less)]
        if more is not None:
            insort(places, more)
        return self.excess_of(places)
