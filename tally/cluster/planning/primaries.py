"""Who is to be primary of which slot: from the present owners, with as few changes as it takes.

Four steps, each of which does nothing where there is nothing to do, so that they leave their own result as it is:

1. give a shard to the slots that have none;
2. while a shard has more or less than its fair share, to the slot: one slot from a full shard to a needy one;
3. while an hour has too many cells on one shard: move or exchange slots, as long as that makes it better;
4. if it does not get good enough: lay all slots out anew.

Step 4 was never needed in tests of long series; it is what makes the bound sure. A shard that joins takes its share
from the others, and step 3 adds little to that, except for the shard with which the bound falls to one cell an hour.

Pure and deterministic.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from heapq import nlargest, nsmallest
from typing import Final, NamedTuple

from tally.cluster.planning.ring import Ring

_LOOKED_AT: Final = 24  # How many candidates are measured exactly, of those that look best.


def place_primaries(
    owners: Sequence[str | None], holders: Sequence[Collection[str]], shards: Collection[str], spreads: Collection[int]
) -> list[str]:
    """Return the primary of each slot.

    Args:
        owners: Slot -> its primary now; None, or one that is not among ``shards``, if it needs another.
        holders: Slot -> who has a copy already: becomes primary without moving data.
        shards: Who can be primary, at least one.
        spreads: Into how many cells hours are split.
    """
    ring = Ring(owners, shards, spreads)
    _fill(ring)
    _even_out(ring, holders)
    _repair(ring, owners, holders)
    if ring.excess() and _laid_out_anew(ring):
        _repair(ring, owners, holders)
    return [owner for owner in ring.owners if owner is not None]


def laps(slots: int, shards: Sequence[str]) -> list[str]:
    """Return the primary of each slot of a new cluster: laps round the shards.

    Laps of all shards seldom come out even. A short last lap would meet the first one round the end of the ring, and
    bring a shard near itself; so the places too many are left out here and there, of each shard one at most.
    """
    count = -(-slots // len(shards))
    too_many = count * len(shards) - slots
    left_out = {(number % count, number * len(shards) // too_many) for number in range(too_many)}
    return [shard for lap in range(count) for place, shard in enumerate(shards) if (lap, place) not in left_out]


def _fill(ring: Ring) -> None:
    for slot, owner in enumerate(ring.owners):
        if owner is None:
            free = [shard for shard, places in ring.slots_of.items() if len(places) < ring.high]
            worse = {shard: ring.excess_with(shard, more=slot) - ring.excess_with(shard) for shard in free}
            ring.give(slot, min(free, key=lambda shard: (worse[shard], ring.crowd[shard][slot], shard)))


def _even_out(ring: Ring, holders: Sequence[Collection[str]]) -> None:
    while True:
        full = max(ring.slots_of, key=lambda shard: len(ring.slots_of[shard]))
        needy = min(ring.slots_of, key=lambda shard: len(ring.slots_of[shard]))
        most, least = len(ring.slots_of[full]), len(ring.slots_of[needy])
        if most <= ring.high and least >= ring.low:
            return
        offered = [slot for places in ring.slots_of.values() if len(places) == most for slot in places]
        ring.give(_best_to_give(ring, offered, needy, holders), needy)


def _best_to_give(ring: Ring, offered: list[int], needy: str, holders: Sequence[Collection[str]]) -> int:
    owners, crowd = ring.owners, ring.crowd

    def relief(slot: int) -> tuple[bool, int]:
        owner = owners[slot]
        assert owner is not None
        return needy in holders[slot], crowd[owner][slot] - crowd[needy][slot]

    def gain(slot: int) -> tuple[int, bool, int, int]:
        owner = owners[slot]
        assert owner is not None
        less = ring.excess_with(owner) - ring.excess_with(owner, less=slot)
        more = ring.excess_with(needy, more=slot) - ring.excess_with(needy)
        return less - more, *relief(slot), -slot

    return max(nlargest(_LOOKED_AT, offered, key=relief), key=gain)


class _Step(NamedTuple):
    """Give ``slot`` to the owner of ``back``, for ``back``; or just to ``shard``, if ``back`` is None."""

    cost: tuple[int, int]
    slot: int
    shard: str
    back: int | None


def _repair(ring: Ring, owners: Sequence[str | None], holders: Sequence[Collection[str]]) -> None:
    """Take steps while there is excess; each lowers (excess, crowd), so it ends, and finds nothing when done again."""
    repair = _Repair(ring, owners, holders)
    while step := repair.next_step():
        giver = ring.owners[step.slot]
        assert giver is not None
        ring.give(step.slot, step.shard)
        if step.back is not None:
            ring.give(step.back, giver)


class _Repair:
    """Looks for the next step of a repair."""

    def __init__(self, ring: Ring, owners: Sequence[str | None], holders: Sequence[Collection[str]]) -> None:
        self._ring = ring
        self._owners = owners
        self._holders = holders

    def next_step(self) -> _Step | None:
        """Return the best of the first that make it better, first by a look at some candidates, then at all."""
        ring = self._ring
        worst = sorted((-excess, shard) for shard, at in ring.slots_of.items() if (excess := ring.excess_of(at)))
        for looked_at in (_LOOKED_AT, len(ring.owners)):
            for _, shard in worst:
                for slot in sorted(ring.slots_of[shard], key=ring.crowd[shard].__getitem__, reverse=True):
                    steps = [*self._moves(slot, shard), *self._exchanges(slot, shard, looked_at)]
                    if steps:
                        return min(steps, key=lambda step: (step.cost, step.slot, step.shard, step.back or 0))
        return None

    def _moves(self, slot: int, giver: str) -> Iterator[_Step]:
        ring = self._ring
        if len(ring.slots_of[giver]) <= ring.low:
            return
        for taker, places in ring.slots_of.items():
            if taker != giver and len(places) < ring.high:
                crowd = ring.crowd[taker][slot] - ring.crowd[giver][slot]
                excess = ring.excess_with(taker, more=slot) - ring.excess_with(taker)
                excess += ring.excess_with(giver, less=slot) - ring.excess_with(giver)
                if (excess, crowd) < (0, 0):
                    yield _Step((excess + self._changes(slot, giver, taker), crowd), slot, taker, None)

    def _exchanges(self, slot: int, giver: str, looked_at: int) -> Iterator[_Step]:
        ring = self._ring
        crowd_here, left = ring.crowd[giver], ring.crowd[giver][slot]

        def crowd_after(other: int) -> int:
            owner = ring.owners[other]
            assert owner is not None
            there = ring.crowd[owner]
            return there[slot] - left + crowd_here[other] - there[other] - 2 * ring.weight(slot, other)

        others = (other for other, owner in enumerate(ring.owners) if owner != giver)
        for other in nsmallest(looked_at, others, key=crowd_after):
            taker = ring.owners[other]
            assert taker is not None
            excess = ring.excess_with(giver, more=other, less=slot) - ring.excess_with(giver)
            excess += ring.excess_with(taker, more=slot, less=other) - ring.excess_with(taker)
            crowd = crowd_after(other)
            if (excess, crowd) < (0, 0):
                changes = self._changes(slot, giver, taker) + self._changes(other, taker, giver)
                yield _Step((excess + changes, crowd), slot, taker, other)

    def _changes(self, slot: int, before: str, after: str) -> int:
        return self._change(slot, after) - self._change(slot, before)

    def _change(self, slot: int, shard: str) -> int:
        if shard == self._owners[slot]:
            return 0
        return 1 if shard in self._holders[slot] else 2


def _laid_out_anew(ring: Ring) -> bool:
    """Lay all slots out in laps if that is better; each shard gets the places that have most of its slots."""
    places = laps(len(ring.owners), sorted(ring.slots_of))
    if Ring(places, ring.slots_of, ring.spreads).excess() >= ring.excess():
        return False
    same = Counter(zip(places, ring.owners, strict=True))
    named: dict[str, str] = {}
    pairs = [(place, shard) for place in ring.slots_of for shard in ring.slots_of]
    for place, shard in sorted(pairs, key=lambda pair: (-same[pair], pair)):
        if place not in named and shard not in named.values():
            named[place] = shard
    for slot, place in enumerate(places):
        ring.give(slot, named[place])
    return True
