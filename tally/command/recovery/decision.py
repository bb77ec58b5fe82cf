"""The map that ``tally recover`` makes of what all copies tell: which copies are in sync. Pure.

| a slot has | its row |
|---|---|
| copies | one of those with the highest head is primary, and all of those are in sync |
| copies with heads of one name and other content | none, unless data loss is accepted: then the one that most have |
| no copy | none, unless data loss is accepted: then an empty one on the shard with the fewest |

Why the highest head, by (epoch, opnum), has all that was acknowledged, if all shards are asked and none has lost its
disk. An op (e, n) is acknowledged once every member of the row of e has it. Take one of them: it keeps that, for a
clone that replaces it comes from a primary that serves, and has it too. So the highest of all heads, (f, m), is at
least (e, n). If f = e, both are of one term, whose ops follow each other, so (f, m) has (e, n) in it. If f > e, the
term of f began by collecting what was acknowledged in all before it, and each op of it has that in it. What comes
after (e, n) was in doubt; now it is counted, once, for its writer's number goes with it.

Why no copy that is one op behind, though a term begins by forwarding its head: that op may be acknowledged. If those
who have it died before, the others of the set would go on without it. They catch up within seconds, by the op log.

Why nothing is acknowledged after a head was told: the epoch that each copy stores, the fence, is higher than any that a
copy has stored and any row that a shard knows. So no term of it or of a higher one can begin before the new row, which
is higher still, is written; and that is written only if etcd has no other map by then.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tally.cluster.members import Wanted
from tally.cluster.op_name import OpName
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.cluster.state import ClusterState
from tally.command.shards import Answers
from tally.command.slot_list import named_slots
from tally.command.tables import table


class CopyHead(NamedTuple):
    """The op that a copy applied last.

    Attributes:
        incarnation: Of the copy.
        name: Of the op.
    """

    incarnation: str
    name: OpName


class Told(NamedTuple):
    """A copy's answer: the epoch that it has stored, and its head if it is complete and took the fence."""

    epoch: int
    head: CopyHead | None


Heads = Mapping[int, Mapping[str, CopyHead]]
"""Slot -> shard -> the head of its copy."""


class Recovered(NamedTuple):
    """What is decided.

    Attributes:
        rows: Slot -> its row.
        behind: Slot -> who has a copy that is not in sync; it catches up.
        unlike: Slots of which heads of one name have other content.
        lost: Slots without a copy.
    """

    rows: Mapping[int, SlotRow]
    behind: Mapping[int, tuple[str, ...]]
    unlike: tuple[int, ...]
    lost: tuple[int, ...]


def recovered(
    state: ClusterState, fences: Sequence[int], heads: Heads, before: Mapping[int, str], *, accept_loss: bool = False
) -> Recovered:
    """Decide on all rows that can be decided on.

    Args:
        state: With the members.
        fences: By slot, the epoch that its copies have stored.
        heads: Of all complete copies that there are.
        before: Slot -> who served it last; it is primary again if it can be.
        accept_loss: Choose where heads are unlike; what shards have that are left out is given up in all slots.
    """
    active = sum(member.wanted is Wanted.ACTIVE for member in state.members.values())
    floor = state.config.min_copies_among(active)
    rows: dict[int, SlotRow] = {}
    behind: dict[int, tuple[str, ...]] = {}
    unlike: list[int] = []
    primaries: Counter[str] = Counter()
    for slot, fence in enumerate(fences):
        copies = heads.get(slot, {})
        tops = _tops(copies)
        if len(tops) > 1:
            unlike.append(slot)
        if not tops or (len(tops) > 1 and not accept_loss):
            continue
        in_sync = {shard: copies[shard].incarnation for shard in sorted(copies) if copies[shard].name == tops[0]}
        primary = before.get(slot, "")
        if primary not in in_sync:
            primary = min(in_sync, key=lambda shard: (primaries[shard], shard))
        primaries[primary] += 1
        # Who is ahead by number and behind by epoch is of a line that was given up, whether etcd knows it or not.
        stray = any(head.name.opnum > tops[0].opnum + 1 for head in copies.values())
        gave_up = fence + 1 if accept_loss or stray else _gave_up(state, slot)
        rows[slot] = SlotRow(fence + 1, primary, in_sync, min(floor, len(in_sync)), gave_up)
        behind[slot] = tuple(sorted(copies.keys() - in_sync.keys()))
    lost = tuple(slot for slot in range(len(fences)) if not heads.get(slot))
    return Recovered(rows, {slot: shards for slot, shards in behind.items() if shards}, tuple(unlike), lost)


def _gave_up(state: ClusterState, slot: int) -> int:
    """Return the epoch of the slot's last give-up, as far as etcd knows."""
    return state.map.rows[slot].gave_up if state.map is not None else 0


def _tops(copies: Mapping[str, CopyHead]) -> list[OpName]:
    """Return the highest heads, more than one only if their content differs; first what most copies have."""
    counts = Counter(head.name for head in copies.values())
    top = max((name.order for name in counts), default=None)
    tops = [name for name in counts if name.order == top]
    return sorted(tops, key=lambda name: (-counts[name], name.digest))


def heirs(found: Recovered, answers: Answers, state: ClusterState, slots: Iterable[int]) -> dict[int, str]:
    """Return who is to begin slots of which no copy is left: active shards that answer, those with the fewest first."""
    kept = Counter(shard for row in found.rows.values() for shard in row.in_sync)
    active = [
        shard
        for shard, answer in sorted(answers.items())
        if answer is not None and state.members[shard].wanted is Wanted.ACTIVE
    ]
    chosen: dict[int, str] = {}
    for slot in slots if active else ():
        chosen[slot] = min(active, key=lambda shard: (kept[shard], shard))
        kept[chosen[slot]] += 1
    return chosen


def map_of(found: Recovered, begun: Mapping[int, SlotRow]) -> SlotMap:
    """Put the map together of rows for every slot."""
    rows = {**found.rows, **begun}
    return SlotMap(tuple(rows[slot] for slot in range(len(rows))))


def describe_map(slot_map: SlotMap, found: Recovered, begun: Mapping[int, SlotRow]) -> str:
    """Show what was recovered."""
    kept = Counter(shard for row in slot_map.rows for shard in row.in_sync)
    late = Counter(shard for shards in found.behind.values() for shard in shards)
    slots = slot_map.slots_per_primary()
    lines = [
        (shard, str(slots[shard]), str(kept[shard]), str(late[shard])) for shard in sorted(kept.keys() | late.keys())
    ]
    text = [
        table(("SHARD", "SLOTS", "COPIES", "TO CATCH UP"), lines),
        "",
        f"recovered: {len(found.rows)} of {len(slot_map.rows)} slots, with {kept.total()} copies in sync",
    ]
    if begun:
        text.append(f"begun with nothing, their events are lost: {named_slots(begun)}")
    return "\n".join([*text, "they serve again within seconds, see: tally status"])
