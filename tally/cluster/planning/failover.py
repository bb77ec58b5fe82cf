"""Rows whose copies died or were lost: who is promoted, and who is taken out (rule 15). Pure.

| primary | a fit member of the set besides it | row |
|---|---|---|
| dead, copyless, unreachable, or not serving for ``NOT_SERVING_S`` | there is one | it is promoted |
| dead or copyless | none | stays as it is: whoever of the set comes back may have everything |
| else, or promoted just now | | each backup that is dead or copyless is taken out |

An unreachable shard stays in the sets: only the controller can't reach it, as far as is known. If the new primary can't
either, it asks for the removal by itself (rule 5).

Whose head is highest is promoted, of those with an alive key. Another would be safe too, for a term begins by asking
for heads; but a primary that can neither reach a member nor have it removed, because it may be ahead, serves nothing,
and two such copies would take turns for ever.

Nothing of this while the plan is held (``health.py``).
"""

from collections import Counter
from collections.abc import Sequence

from tally.cluster.planning.health import Sight
from tally.cluster.planning.placement import Target
from tally.cluster.rows import promote, remove
from tally.cluster.slot_map import SlotRow


class Chooser:
    """Chooses who is promoted.

    Who has an alive key comes before who has none: its disk takes writes. Then the highest head. Then nobody shunned if
    it can be, by the target, else so that no hour lies on few shards.
    """

    def __init__(self, sight: Sight, rows: Sequence[SlotRow], target: Target | None) -> None:
        self._sight = sight
        self._target = target
        self._primaries = [row.primary for row in rows]
        self._counts = Counter(self._primaries)
        self._reach = sight.state.config.shape.widest

    def successor(self, slot: int, row: SlotRow, *, by_head: bool) -> str | None:
        """Return who of the set had best be primary instead; None if nobody can.

        Args:
            slot: Of the row.
            row: As it is.
            by_head: The primary may never say what it has: heads count. One that hands over brings all to the same.
        """
        fit = [shard for shard in row.in_sync if shard != row.primary and self._sight.fit(slot, row, shard)]
        return min(fit, key=lambda shard: self._order(slot, shard, by_head), default=None)

    def _order(self, slot: int, shard: str, by_head: bool) -> tuple[bool, int, int, bool, bool, int, int, str]:
        epoch, opnum = self._sight.head(slot, shard).order if by_head else (0, 0)
        size = len(self._primaries)
        reach = min(self._reach, size)
        near = sum(self._primaries[(slot + far) % size] == shard for far in range(1 - reach, reach))
        wanted = self._target is not None and self._target.primaries[slot] == shard
        return (
            shard not in self._sight.state.alive,
            -epoch,
            -opnum,
            self._sight.shunned(slot, shard),
            not wanted,
            near,
            self._counts[shard],
            shard,
        )

    def note(self, slot: int, shard: str) -> None:
        """Count ``shard`` as the slot's primary from now on."""
        self._counts[self._primaries[slot]] -= 1
        self._counts[shard] += 1
        self._primaries[slot] = shard


def fail_over(sight: Sight, rows: Sequence[SlotRow], target: Target | None) -> dict[int, SlotRow]:
    """Return the rows that must change because of who died or lost a copy."""
    if sight.held:
        return {}
    chooser = Chooser(sight, rows, target)
    changed: dict[int, SlotRow] = {}
    for slot, row in enumerate(rows):
        after = _failed_over(sight, chooser, slot, row)
        if after is not row:
            changed[slot] = after
    return changed


def _failed_over(sight: Sight, chooser: Chooser, slot: int, row: SlotRow) -> SlotRow:
    gone = {shard for shard in row.in_sync if shard in sight.dead or sight.copyless(slot, row, shard)}
    if row.primary in gone | sight.unreachable or sight.stuck(slot, row):
        successor = chooser.successor(slot, row, by_head=True)
        if successor is not None:
            chooser.note(slot, successor)
            row = promote(row, successor)
    if row.primary not in gone:
        for shard in sorted(gone):
            row = remove(row, shard)
    return row
