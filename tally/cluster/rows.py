"""The changes that a row of the map can have, and those that primaries ask for. Rules 1, 10, 11 and 15 of PROTOCOL.

| change | what must be so | what comes of it |
|---|---|---|
| add | not in the set | one more in the set; ``min_copies`` rises with the set, up to the cluster's |
| remove | in the set, not the primary | one less; ``min_copies`` stays, so the slot may stop taking writes |
| promote | in the set, not the primary | another primary; the old one stays in the set |
| new_term | | only the epoch |
| with_min_copies | another number | the operator, or the number of members, changed what is wanted |
| give_up | an operator's word | a set of one; what only the others knew is lost |

Every change is epoch + 1 (rule 1). What is not in the table is an error, ``IllegalChange``.
Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import NamedTuple

from tally.cluster.op_name import OpName
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.errors import TallyError


class IllegalChange(TallyError):
    """A row can't be changed so; nothing was changed."""

    def __init__(self, change: str, shard: str, reason: str) -> None:
        super().__init__(change, shard, reason)
        self.change = change
        self.shard = shard
        self.reason = reason

    def __str__(self) -> str:
        return f"can't {self.change} {self.shard}: {self.reason}"


def add(row: SlotRow, shard: str, incarnation: str, min_copies: int) -> SlotRow:
    """Take a copy into the set; ``min_copies`` is the cluster's, as of the members that it has now (rule 10)."""
    if shard in row.in_sync:
        raise IllegalChange("add", shard, "it is in the set")
    in_sync = {**row.in_sync, shard: incarnation}
    floor = max(row.min_copies, min(min_copies, len(in_sync)))
    return replace(row, epoch=row.epoch + 1, in_sync=in_sync, min_copies=floor)


def remove(row: SlotRow, shard: str) -> SlotRow:
    """Take a backup out of the set (rules 5 and 15); the last copy is the primary, and never a backup."""
    if shard not in row.in_sync:
        raise IllegalChange("remove", shard, "it is not in the set")
    if shard == row.primary:
        raise IllegalChange("remove", shard, "it is the primary")
    rest = {name: incarnation for name, incarnation in row.in_sync.items() if name != shard}
    return replace(row, epoch=row.epoch + 1, in_sync=rest)


def promote(row: SlotRow, shard: str) -> SlotRow:
    """Make a member of the set the primary; the old one stays a member (rule 15)."""
    if shard not in row.in_sync:
        raise IllegalChange("promote", shard, "it is not in the set")
    if shard == row.primary:
        raise IllegalChange("promote", shard, "it is the primary")
    return replace(row, epoch=row.epoch + 1, primary=shard)


def new_term(row: SlotRow) -> SlotRow:
    """Let the primary begin again (rule 4); it settles all open requests too (rule 8)."""
    return replace(row, epoch=row.epoch + 1)


def with_min_copies(row: SlotRow, min_copies: int) -> SlotRow:
    """Set below how many copies the slot takes no writes."""
    if min_copies == row.min_copies or min_copies < 1:
        raise IllegalChange("set min_copies of", row.primary, f"from {row.min_copies} to {min_copies}")
    return replace(row, epoch=row.epoch + 1, min_copies=min_copies)


def give_up(row: SlotRow, shard: str, incarnation: str) -> SlotRow:
    """Go on with one copy, whatever the others of the set knew: only on an operator's ``--accept-data-loss``.

    Args:
        row: Whose set is gone for good.
        shard: Who is to have the slot.
        incarnation: A fresh one, to begin with nothing; or that of an older complete copy on ``shard``, to lose only
            what came after it.
    """
    return SlotRow(row.epoch + 1, shard, {shard: incarnation}, gave_up=row.epoch + 1)


class Change(Enum):
    """What a primary asks the controller for (rule 11)."""

    ADD = auto()
    REMOVE = auto()
    PROMOTE = auto()
    TERM = auto()


class Request(NamedTuple):
    """A primary's wish to change its row.

    Attributes:
        change: What is to be done.
        slot: Of which row.
        epoch: The one that it was primary in.
        shard, incarnation: The copy that it is about.
        process: Value of the primary's alive key: which of its processes asks.
        head: The primary's own, if the request is *doubted*: a removal for silence by a process that never saw that its
            disk has all there was. None: a request like any other.
    """

    change: Change
    slot: int
    epoch: int
    shard: str
    incarnation: str
    process: str
    head: OpName | None = None

    @property
    def doubted(self) -> bool:
        """Whether the controller is to look at the member by itself before it is taken out."""
        return self.change is Change.REMOVE and self.head is not None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request was not executed, and the row as it is: the primary goes on from there."""

    request: Request
    row: SlotRow | None
    reason: str


def execute(slot_map: SlotMap, request: Request, *, min_copies: int) -> SlotMap | Refusal:
    """Return the map with the request executed, or why not.

    A request that was executed already, and asked again because its answer was lost, is refused like any other of an
    older epoch: the row in the refusal shows what came of it.

    Args:
        slot_map: As it stands in etcd.
        request: Executed only if its epoch is the row's (rule 11).
        min_copies: The cluster's, as of the members that it has now.
    """
    if not 0 <= request.slot < len(slot_map.rows):
        return Refusal(request, None, "there is no such slot")
    row = slot_map.rows[request.slot]
    if request.epoch != row.epoch:
        return Refusal(request, row, f"the row is of epoch {row.epoch}")
    wishes = slot_map.joining.get(request.slot, ())
    if request.change is Change.ADD and request.shard not in wishes:
        return Refusal(request, row, "nobody wishes that it joins")
    in_the_row = request.change in {Change.REMOVE, Change.PROMOTE}
    if in_the_row and row.in_sync.get(request.shard) != request.incarnation:
        return Refusal(request, row, "that copy is not in the set")
    try:
        changed = _changed(row, request, min_copies)
    except IllegalChange as exc:
        return Refusal(request, row, exc.reason)
    return with_rows(slot_map, {request.slot: changed})


def _changed(row: SlotRow, request: Request, min_copies: int) -> SlotRow:
    match request.change:
        case Change.ADD:
            return add(row, request.shard, request.incarnation, min_copies)
        case Change.REMOVE:
            return remove(row, request.shard)
        case Change.PROMOTE:
            return promote(row, request.shard)
        case Change.TERM:
            return new_term(row)


def execute_all(
    slot_map: SlotMap, requests: Iterable[Request], *, min_copies: int
) -> tuple[SlotMap, tuple[Refusal | None, ...]]:
    """Execute what can be, for one transaction; the answers are in the order of the requests, None for executed.

    Of several requests for one slot only the first can be: it raises the epoch.
    """
    answers: list[Refusal | None] = []
    for request in requests:
        result = execute(slot_map, request, min_copies=min_copies)
        if isinstance(result, Refusal):
            answers.append(result)
        else:
            slot_map = result
            answers.append(None)
    return slot_map, tuple(answers)


def with_rows(slot_map: SlotMap, changed: dict[int, SlotRow]) -> SlotMap:
    """Return the map with other rows; a wish that came true is none any more."""
    rows = tuple(changed.get(slot, row) for slot, row in enumerate(slot_map.rows))
    return SlotMap(rows, still_wished(rows, slot_map.joining.items()))


def still_wished(
    rows: tuple[SlotRow, ...], wishes: Iterable[tuple[int, tuple[str, ...]]]
) -> dict[int, tuple[str, ...]]:
    """Return the wishes for copies that the rows don't have."""
    left = {slot: tuple(shard for shard in shards if shard not in rows[slot].in_sync) for slot, shards in wishes}
    return {slot: shards for slot, shards in sorted(left.items()) if shards}
