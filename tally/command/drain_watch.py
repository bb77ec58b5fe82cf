"""What ``tally drain --wait`` makes of what it sees: done, going on, or stuck, and why. Pure: time is an argument."""

from collections import Counter
from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

from tally.cluster.members import Wanted
from tally.cluster.planning.progress import drained, progress
from tally.cluster.slot_map import SlotRow
from tally.cluster.state import ClusterState
from tally.command.shards import Answers
from tally.command.slot_list import named_slots


class Step(Enum):
    """How a drain goes."""

    GOES_ON = auto()
    DRAINED = auto()
    UNDONE = auto()  # Somebody wants the shard active again.
    STUCK = auto()


class Left(NamedTuple):
    """What a shard that drains still has.

    Attributes:
        copies: It keeps, or is to get.
        primaries: Of these it is primary.
    """

    copies: int
    primaries: int

    def __str__(self) -> str:
        return f"{self.copies} {'copy' if self.copies == 1 else 'copies'} left, {self.primaries} of them primary"


class _Mark(NamedTuple):
    """All that changes while a drain goes on."""

    rows: Mapping[int, SlotRow]
    joining: Mapping[int, tuple[str, ...]]
    clone_bytes: Mapping[tuple[str, int], int]


class Watch:
    """Follows the drain of one shard."""

    def __init__(self, shard: str, state: ClusterState, now: float, *, patience_s: float) -> None:
        """Begin; nothing moves for ``patience_s`` seconds: stuck."""
        self.left = left(state, shard)
        self.at_first = self.left.copies
        """How many copies there were at the start."""
        self._shard = shard
        self._patience_s = patience_s
        self._mark: _Mark | None = None
        self._moved_at = now

    def see(self, state: ClusterState, answers: Answers, now: float) -> Step:
        """Take in what etcd and the shards say now."""
        member = state.members.get(self._shard)
        if member is not None and member.wanted is Wanted.ACTIVE:
            return Step.UNDONE
        self.left = left(state, self._shard)
        if drained(state, self._shard):
            return Step.DRAINED
        mark = _mark(state, self._shard, answers)
        if mark != self._mark:
            self._mark, self._moved_at = mark, now
        return self.unseen(now)

    def unseen(self, now: float) -> Step:
        """Note that etcd told nothing."""
        return Step.STUCK if now - self._moved_at >= self._patience_s else Step.GOES_ON


def left(state: ClusterState, shard: str) -> Left:
    """Return what ``shard`` still has."""
    found = progress(state).shards.get(shard)
    return Left(found.copies + found.joining, found.primaries) if found else Left(0, 0)


def joiners(state: ClusterState, shard: str) -> set[str]:
    """Return who is to get copies of slots that ``shard`` has."""
    return {name for slot in _slots(state, shard) for name in (state.map.joining.get(slot, ()) if state.map else ())}


def _slots(state: ClusterState, shard: str) -> dict[int, SlotRow]:
    if state.map is None:
        return {}
    joining = state.map.joining
    return {
        slot: row for slot, row in enumerate(state.map.rows) if shard in row.in_sync or shard in joining.get(slot, ())
    }


def _mark(state: ClusterState, shard: str, answers: Answers) -> _Mark:
    slots = _slots(state, shard)
    wishes = state.map.joining if state.map else {}
    joining = {slot: wishes[slot] for slot in slots if slot in wishes}
    came = {
        (name, slot): copy.clone_bytes
        for name, answer in answers.items()
        if answer is not None
        for slot, copy in answer.copies.items()
        if name in joining.get(slot, ())
    }
    return _Mark(slots, joining, came)


def hindrances(state: ClusterState, shard: str, answers: Answers) -> list[str]:
    """Return why the drain of ``shard`` may not go on, as far as can be seen; empty if nothing can."""
    found: list[str] = []
    active = [name for name, member in state.members.items() if member.wanted is Wanted.ACTIVE]
    alive = [name for name in active if name in state.alive]
    if state.controller is None:
        found.append("no shard is controller, so nobody decides what moves")
    if 2 * len(alive) < len(active):
        found.append(f"only {len(alive)} of {len(active)} active shards are alive")
    slots = _slots(state, shard)
    wishes = state.map.joining if state.map else {}
    due = Counter(name for slot in slots for name in wishes.get(slot, ()))
    for name, count in sorted(due.items()):
        if name not in state.alive:
            found.append(f"{name} is to get {count} of its slots, and is not alive")
    for name, answer in sorted(answers.items()):
        if answer is not None and answer.disk_full and name != shard:
            found.append(f"the disk of {name} is nearly full: it takes no new copies")
    lost = set(progress(state).without_live_copy) & slots.keys()
    if lost:
        found.append(
            f"{named_slots(lost)} {'has' if len(lost) == 1 else 'have'} no live copy to move: see tally status"
        )
    unserved = {
        slot
        for slot, row in slots.items()
        if slot not in lost and (answer := answers.get(row.primary)) is not None and slot not in answer.serving
    }
    if unserved:
        found.append(f"{named_slots(unserved)} {'is' if len(unserved) == 1 else 'are'} not served by the primary now")
    return found
