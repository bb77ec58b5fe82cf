"""Who is to keep the other copies of each slot, once its primary is known; with as few clones as it takes.

1. who has a copy keeps it; of too many, the fullest shards let go;
2. what is missing goes to shards that have fewer copies than their share;
3. while a shard has more or less than its share, to the copy: one backup goes from it, or to it, maybe through others.

Where there is a choice, the backups of one primary are on many shards: if it dies, its load falls on many.
Each step leaves its own result as it is. Pure and deterministic.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence


def place_copies(
    primaries: Sequence[str], holders: Sequence[Sequence[str]], shards: Collection[str], copies: int
) -> list[frozenset[str]]:
    """Return the shards that are to keep each slot, its primary among them.

    Args:
        primaries: Slot -> who is to be its primary.
        holders: Slot -> who has a copy or is getting one, the surest first; only those among ``shards`` count.
        shards: Who can keep copies.
        copies: How many of each slot, at most ``len(shards)``.
    """
    assert 1 <= copies <= len(shards)
    work = _Work(primaries, holders, shards, copies)
    work.let_go()
    work.fill()
    while work.even_out():
        pass
    return [frozenset(kept) for kept in work.kept]


class _Work:
    """The copies as they are at present, while it goes on."""

    def __init__(
        self, primaries: Sequence[str], holders: Sequence[Sequence[str]], shards: Collection[str], copies: int
    ) -> None:
        self.kept = [
            {primary, *(shard for shard in holding if shard in shards)}
            for primary, holding in zip(primaries, holders, strict=True)
        ]
        self._primaries = primaries
        self._copies = copies
        self._sure = [set(holding) for holding in holders]
        self._counts = Counter(dict.fromkeys(sorted(shards), 0))
        self._pairs: Counter[tuple[str, str]] = Counter()  # (Primary, backup) -> slots.
        for slot, kept in enumerate(self.kept):
            for shard in kept:
                self._count(slot, shard, 1)
        total = len(primaries) * copies
        self._low, self._high = total // len(shards), -(-total // len(shards))

    def _count(self, slot: int, shard: str, by: int) -> None:
        self._counts[shard] += by
        if shard != self._primaries[slot]:
            self._pairs[self._primaries[slot], shard] += by

    def _drop(self, slot: int, shard: str) -> None:
        self.kept[slot].remove(shard)
        self._count(slot, shard, -1)

    def _keep(self, slot: int, shard: str) -> None:
        self.kept[slot].add(shard)
        self._count(slot, shard, 1)

    def let_go(self) -> None:
        for slot, kept in enumerate(self.kept):
            while len(kept) > self._copies:
                backups = kept - {self._primaries[slot]}
                self._drop(slot, max(backups, key=lambda shard: (self._counts[shard], shard)))

    def fill(self) -> None:
        for slot, kept in enumerate(self.kept):
            while len(kept) < self._copies:
                self._keep(slot, min(self._counts.keys() - kept, key=lambda shard: self._fill_order(slot, shard)))

    def _fill_order(self, slot: int, shard: str) -> tuple[bool, int, int, str]:
        count = self._counts[shard]
        return count >= self._high, self._pairs[self._primaries[slot], shard], count, shard

    def even_out(self) -> bool:
        """Bring one shard nearer to its share; False if there is none that can be."""
        over = [shard for shard, count in self._counts.items() if count > self._high]
        under = [shard for shard, count in self._counts.items() if count < self._low]
        if not over and not under:
            return False
        givers = over or [shard for shard, count in self._counts.items() if count > self._low]
        takers = under or [shard for shard, count in self._counts.items() if count < self._high]
        way = self._shortest_way(givers, set(takers))
        for giver, taker in way:
            slot = self._slot_to_hand_over(giver, taker)
            assert slot is not None  # No shard comes twice on a way, so no step takes another's slot away.
            self._drop(slot, giver)
            self._keep(slot, taker)
        return bool(way)

    def _shortest_way(self, givers: list[str], takers: set[str]) -> list[tuple[str, str]]:
        """Return the steps, last first, of which each hands one backup on; empty if there is no way."""
        came_from = dict.fromkeys(givers, "")
        reached = list(givers)
        for giver in reached:
            for taker in sorted(self._counts.keys() - came_from.keys(), key=lambda shard: (self._counts[shard], shard)):
                if self._slot_to_hand_over(giver, taker) is None:
                    continue
                came_from[taker] = giver
                reached.append(taker)
                if taker in takers:
                    return list(self._steps_to(taker, came_from))
        return []

    @staticmethod
    def _steps_to(taker: str, came_from: dict[str, str]) -> Iterator[tuple[str, str]]:
        while giver := came_from[taker]:
            yield giver, taker
            taker = giver

    def _slot_to_hand_over(self, giver: str, taker: str) -> int | None:
        """Return the slot whose backup on ``giver`` had best be on ``taker``, if there is one."""
        best: tuple[int, int, int] | None = None
        for slot, kept in enumerate(self.kept):
            if giver in kept and taker not in kept and self._primaries[slot] != giver:
                primary = self._primaries[slot]
                # A copy that nobody has yet goes first: it costs nothing.
                costs = (giver in self._sure[slot]) - (taker in self._sure[slot])
                order = (costs, self._pairs[primary, taker] - self._pairs[primary, giver], slot)
                if best is None or order < best:
                    best = order
        return None if best is None else best[-1]
