"""Which slots can be given up, who is to have them then, and what that costs. Pure.

| holder of an in-sync copy | its copy is |
|---|---|
| not alive, and does not answer | lost, if the operator says so |
| alive, but does not answer | unknown: refused |
| answers, and has that copy | live: refused |
| answers, and has not that copy | lost: its directory was emptied |

Who is to have the slot: the shard whose complete older copy has the highest head, by (epoch, opnum), else the one that
is asked for, else the active one with the fewest copies.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from tally.cluster.members import Wanted
from tally.cluster.slot_map import SlotRow
from tally.cluster.state import ClusterState
from tally.command.cluster import Refused, UnknownShard
from tally.command.shards import Answers
from tally.command.slot_list import compressed, named_slots


class Loss(NamedTuple):
    """One slot that is given up.

    Attributes:
        slot: Which.
        holders: Who had its copies in sync.
        heir: Who is to have it.
        incarnation: Of the heir's older copy; "" if it has none, and begins with nothing.
        opnum: How many ops that has applied.
    """

    slot: int
    holders: tuple[str, ...]
    heir: str
    incarnation: str = ""
    opnum: int = 0


def losses(state: ClusterState, answers: Answers, slots: Iterable[int], to: str | None) -> tuple[Loss, ...]:
    """Return what is lost when these slots are given up.

    Args:
        state: As of one revision; with a map.
        answers: Of all members.
        slots: Which.
        to: Who is to have those that nobody has an older copy of; None: whoever has the fewest copies.

    Raises:
        UnknownShard: ``to`` is no member.
        Refused: One of the slots has a live copy, or may have one; or there is nobody to have it.
    """
    assert state.map is not None
    chosen = tuple(slots)
    _check_lost(state, answers, chosen)
    heirs = _Heirs(state, answers, to)
    return tuple(heirs.loss(slot, state.map.rows[slot]) for slot in chosen)


def emptied(state: ClusterState, answers: Answers, slots: Iterable[int]) -> set[str]:
    """Return who answers without having its in-sync copy of one of these: an answer can be older than the map."""
    assert state.map is not None
    holders = {name for slot in slots for name in state.map.rows[slot].in_sync}
    return {name for name in holders if answers.get(name) is not None}


def _check_lost(state: ClusterState, answers: Answers, slots: Iterable[int]) -> None:
    assert state.map is not None
    live: set[int] = set()
    keepers: set[str] = set()
    for slot in slots:
        row = state.map.rows[slot]
        holders = {name for name in row.in_sync if _has_it(answers, slot, row, name)}
        if holders:
            live.add(slot)
            keepers |= holders
    silent = {name for name in state.alive if answers.get(name) is None}
    if live:
        has = "has" if len(live) == 1 else "have"
        raise Refused(
            f"{named_slots(live)} {has} a live copy in sync, on {', '.join(sorted(keepers))}: "
            "nothing is lost there, and nothing to give up"
        )
    if silent:
        raise Refused(
            f"{', '.join(sorted(silent))} {'is' if len(silent) == 1 else 'are'} alive by its lease but "
            "does not answer, and may have a copy: wait until it answers, or switch it off"
        )


def _has_it(answers: Answers, slot: int, row: SlotRow, shard: str) -> bool:
    answer = answers.get(shard)
    if answer is None:
        return False
    copy = answer.copies.get(slot)
    return slot in answer.serving or (copy is not None and copy.incarnation == row.in_sync[shard])


class _Heirs:
    """Chooses who is to have the slots, so that no shard gets them all."""

    def __init__(self, state: ClusterState, answers: Answers, to: str | None) -> None:
        assert state.map is not None
        self._answers = {name: answer for name, answer in answers.items() if answer is not None}
        self._there = {name for name in self._answers if name in state.alive}
        self._active = {
            name
            for name in self._there
            if state.members[name].wanted is Wanted.ACTIVE and not self._answers[name].stopping
        }
        self._kept = Counter(name for row in state.map.rows for name in row.in_sync)
        self._to = to
        if to is not None and to not in state.members:
            raise UnknownShard(to, tuple(state.members))
        if to is not None and to not in self._active:
            raise Refused(f"{to} can't take slots: it is not alive, or drains; take another one for --to")

    def loss(self, slot: int, row: SlotRow) -> Loss:
        """Choose for one slot."""
        holders = tuple(sorted(row.in_sync))
        older = [
            (copy.head.order, name in self._active, -self._kept[name], name, copy.incarnation)
            for name in sorted(self._there)
            if (copy := self._answers[name].copies.get(slot)) is not None and copy.complete
        ]
        if older:
            (_, opnum), _, _, heir, incarnation = max(older)
            self._kept[heir] += 1
            return Loss(slot, holders, heir, incarnation, opnum)
        if not self._active:
            raise Refused("no active shard is alive and answers, so nobody can have the slots; start one first")
        roomy = {name for name in self._active if not self._answers[name].disk_full} or self._active
        # Not who was still getting a copy of it: an empty one can't be begun beside that.
        heir = self._to or min(roomy, key=lambda name: (slot in self._answers[name].copies, self._kept[name], name))
        self._kept[heir] += 1
        return Loss(slot, holders, heir)


def describe_cost(found: Iterable[Loss]) -> str:
    """Say what giving up costs, some lines, like ones together."""
    by_holders: dict[tuple[str, ...], list[Loss]] = defaultdict(list)
    for loss in found:
        by_holders[loss.holders].append(loss)
    lines: list[str] = []
    for holders, some in sorted(by_holders.items(), key=lambda item: item[1][0].slot):
        who = " and ".join(holders)
        slots = named_slots(loss.slot for loss in some)
        lines.append(f"{slots}: in sync only on {who}, no longer there; since when is not known")
        lines += [f"  {line}" for line in describe_heirs(some)]
    return "\n".join(lines)


def describe_heirs(found: Iterable[Loss]) -> list[str]:
    """Say who has which slot, and what of it is lost; like ones together."""
    empty: dict[str, list[int]] = defaultdict(list)
    older: dict[tuple[str, int], list[int]] = defaultdict(list)
    for loss in found:
        if loss.opnum:
            older[loss.heir, loss.opnum].append(loss.slot)
        else:
            empty[loss.heir].append(loss.slot)
    return [
        *(
            f"{compressed(slots)}: {heir} has an older copy ({opnum} {'op' if opnum == 1 else 'ops'}); "
            "only what came after it is lost"
            for (heir, opnum), slots in sorted(older.items(), key=lambda item: item[1])
        ),
        *(
            f"{compressed(slots)}: {heir} begins with nothing; all events that were counted there are lost"
            for heir, slots in sorted(empty.items(), key=lambda item: item[1])
        ),
    ]
