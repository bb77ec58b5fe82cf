"""From where the slots are to where they are to be, some steps at a time (rule 15: add, promote, remove). Pure.

| slot | step |
|---|---|
| a shard of the target is not in the set | a wish that it joins, within limits; a dead one joins when it is back |
| a wish that came true, or is not of the target | withdrawn |
| the primary is not the target's, which is fit, alive and not shunned | a switch, asked for by the primary itself |
| the primary is not of the target, and the target's is shunned | a switch to another, so that a drain ends |
| the primary stops | a switch to whoever is fit; all of these at once, for the shard will not wait long |
| it serves, all of the target are in the set and live, and more are in it | one more is taken out, never the primary |
| ``min_copies`` is above what config and members say | lowered to just that, however few copies are in the set |
| ``min_copies`` is below that, and below the set | raised, as far as the set goes |

A shard that has no copy to catch up from joins ``CLONES_AT_ONCE`` slots at a time, and is cloned from by as many. Only
wishes that can come true take these places: one whose primary is out of service is kept, for its shard may go on when
that is back, but takes none; one for a shard with a full disk is withdrawn, for it ignores it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from tally.cluster.planning.failover import Chooser
from tally.cluster.planning.health import Sight
from tally.cluster.planning.placement import Target
from tally.cluster.rows import remove, with_min_copies
from tally.cluster.slot_map import SlotRow

CLONES_AT_ONCE: Final = 2
CATCH_UPS_AT_ONCE: Final = 64
SWITCHES_AT_ONCE: Final = 16
ROWS_AT_ONCE: Final = 16


def tidied(sight: Sight, rows: Sequence[SlotRow], target: Target) -> dict[int, SlotRow]:
    """Return the rows to change because nothing is missing in them any more: ``ROWS_AT_ONCE``, for each is a term."""
    changed: dict[int, SlotRow] = {}
    for slot, row in enumerate(rows):
        if len(changed) == ROWS_AT_ONCE:
            break
        after = _tidied(sight, slot, row, target.copies[slot])
        if after is not row:
            changed[slot] = after
    return changed


def _tidied(sight: Sight, slot: int, row: SlotRow, wanted: frozenset[str]) -> SlotRow:
    serves = sight.serves(slot, row)
    # Copies that are missing raise it less far, and never lower it: else the last copy of a slot would take writes.
    floor = min(sight.min_copies, max(row.min_copies, len(row.in_sync)))
    if floor != row.min_copies:
        row = with_min_copies(row, floor)
    spare = sorted(set(row.in_sync) - wanted - {row.primary})
    live = {shard for shard in row.in_sync if shard not in sight.dead}
    # Not before the primary serves: then it has all that was acknowledged, even if its disk lost something once.
    if spare and wanted <= live and serves and not sight.held:
        row = remove(row, spare[0])
    return row


def wishes(
    sight: Sight, rows: Sequence[SlotRow], joining: Mapping[int, tuple[str, ...]], target: Target
) -> dict[int, tuple[str, ...]]:
    """Return who is to join which slot."""
    counted = _Wishes(sight, rows)
    missing = [
        (shard not in joining.get(slot, ()), _safety(sight, row), slot, shard)
        for slot, row in enumerate(rows)
        for shard in sorted(target.copies[slot] - row.in_sync.keys())
    ]
    # What is under way first, so that it stays; then where the fewest copies live.
    for new, _, slot, shard in sorted(missing):
        counted.consider(slot, shard, new=new)
    return {slot: tuple(shards) for slot, shards in sorted(counted.granted.items())}


def _safety(sight: Sight, row: SlotRow) -> int:
    return sum(shard not in sight.dead for shard in row.in_sync)


class _Wishes:
    """Wishes within their limits."""

    def __init__(self, sight: Sight, rows: Sequence[SlotRow]) -> None:
        self.granted: dict[int, list[str]] = {}
        self._sight = sight
        self._rows = rows
        self._to: Counter[str] = Counter()
        self._from: Counter[str] = Counter()
        self._catch_ups: Counter[str] = Counter()

    def consider(self, slot: int, shard: str, *, new: bool) -> None:
        """Grant a wish if it is within the limits; one that is granted already is not ``new``."""
        sight, row = self._sight, self._rows[slot]
        if shard not in sight.dead:
            if new and not (sight.has_room(shard) and sight.serves(slot, row)):
                return
            if not self._within_limits(slot, shard, row):
                return
        self.granted.setdefault(slot, []).append(shard)

    def _within_limits(self, slot: int, shard: str, row: SlotRow) -> bool:
        sight = self._sight
        if not sight.answers(shard):
            return True  # Under way, as far as is known.
        if sight.has_old_copy(slot, shard):
            self._catch_ups[shard] += 1
            return self._catch_ups[shard] <= CATCH_UPS_AT_ONCE
        if sight.disk_full(shard):
            return False
        if sight.out_of_service(slot, row):
            return True
        if self._to[shard] >= CLONES_AT_ONCE or self._from[row.primary] >= CLONES_AT_ONCE:
            return False
        self._to[shard] += 1
        self._from[row.primary] += 1
        return True


def switches(sight: Sight, rows: Sequence[SlotRow], target: Target) -> dict[int, str]:
    """Return which primaries should hand over, and to whom: all those of shards that stop, and some others."""
    chooser = Chooser(sight, rows, target)
    urgent: list[tuple[int, str]] = []
    others: list[tuple[int, str]] = []
    for slot, row in enumerate(rows):
        if not sight.serves(slot, row):
            continue
        wanted = target.primaries[slot]
        if sight.stopping(row.primary):
            successor = chooser.successor(slot, row, by_head=False)
            if successor is not None:
                chooser.note(slot, successor)
                urgent.append((slot, successor))
        elif wanted != row.primary and wanted in sight.state.alive and sight.fit(slot, row, wanted):
            if not sight.shunned(slot, wanted):
                others.append((slot, wanted))
            elif row.primary not in target.copies[slot]:
                successor = chooser.successor(slot, row, by_head=False)
                if successor is not None:
                    chooser.note(slot, successor)
                    others.append((slot, successor))
    # In turn, so that some that do not come about do not keep the others waiting.
    turn = int(sight.now) * SWITCHES_AT_ONCE % len(others) if others else 0
    return dict([*urgent, *[*others[turn:], *others[:turn]][:SWITCHES_AT_ONCE]])
