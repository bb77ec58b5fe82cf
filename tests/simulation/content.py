"""What a slot holds, and how an op is built of sub-batches (PROTOCOL rule 13). Every event has a number."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from xxhash import xxh3_64_digest

from protos.tally.internal.v1 import node_pb2
from shard.replica.words import Op
from tally.client.counts import HourCounts
from tally.client.outbox import SubBatch
from tally.cluster.op_name import OpName
from tests.simulation.ledger import Posted

OK: Final = node_pb2.OUTCOME_OK
OUT_OF_ORDER: Final = node_pb2.OUTCOME_OUT_OF_ORDER
CONTENT_DIFFERS: Final = node_pb2.OUTCOME_CONTENT_DIFFERS
FORGOTTEN: Final = node_pb2.OUTCOME_FORGOTTEN
WRITERS_MAX: Final = 2
"""So few rows that writers are forgotten whenever one of the two gateways starts again."""
FORGOTTEN_AT_ONCE: Final = 1


class Counted(NamedTuple):
    """One event as an op counts it."""

    hour: int
    kind: int
    user: bytes
    number: int


class Row(NamedTuple):
    """What one writer sent last: number, tag of the sub-batch, and what it had heard."""

    seq: int
    tag: bytes
    heard: int


class Body(NamedTuple):
    """What an op changes.

    Attributes:
        events: Counted once more each.
        users: (hour, user) that were not there before.
        writers: The rows of those that wrote.
        forgotten: Writers whose rows go.
        floor: Of the slot, after it.
    """

    events: tuple[Counted, ...]
    users: tuple[tuple[int, bytes], ...]
    writers: tuple[tuple[bytes, Row], ...]
    forgotten: tuple[bytes, ...] = ()
    floor: int = 0


class Content:
    """All that one copy holds, besides its head."""

    __slots__ = ("cells", "events", "floor", "writers")

    def __init__(self) -> None:
        self.cells: dict[int, tuple[list[int], set[bytes]]] = {}  # Hour -> [_, clicks, impressions], users.
        self.events: dict[int, int] = {}  # Number of the event -> how often it was counted; also the keys.
        self.writers: dict[bytes, Row] = {}
        self.floor = 0

    def copy(self) -> "Content":
        """Return what a clone gets."""
        other = Content()
        other.cells = {hour: (list(counts), set(users)) for hour, (counts, users) in self.cells.items()}
        other.events = dict(self.events)
        other.writers = dict(self.writers)
        other.floor = self.floor
        return other

    def equals(self, other: "Content") -> bool:
        """Compare all of it."""
        mine = self.cells, self.events, self.writers, self.floor
        return mine == (other.cells, other.events, other.writers, other.floor)

    def knows(self, number: int) -> bool:
        """Tell whether the key of this event is known."""
        return number in self.events

    def apply(self, body: Body) -> None:
        """Do what an op says."""
        events, cells = self.events, self.cells
        for hour, kind, _, number in body.events:
            events[number] = events.get(number, 0) + 1
            cell = cells.get(hour)
            if cell is None:
                cell = cells[hour] = ([0, 0, 0], set())
            cell[0][kind] += 1
        for hour, user in body.users:
            cells[hour][1].add(user)
        for writer in body.forgotten:
            del self.writers[writer]
        self.writers.update(body.writers)
        self.floor = body.floor

    def counts(self, hour: int, without: Body | None) -> HourCounts:
        """Return the numbers of this slot's part of an hour, without an op that is not committed yet."""
        cell = self.cells.get(hour)
        if cell is None:
            return HourCounts(0, 0, 0)
        (_, clicks, impressions), users = cell
        unique = len(users)
        if without is not None:
            for event in without.events:
                if event.hour == hour:
                    clicks -= event.kind == 1
                    impressions -= event.kind == 2
            unique -= sum(its == hour for its, _ in without.users)
        return HourCounts(unique, clicks, impressions)


class Building:
    """An op while it is built."""

    def __init__(self, content: Content, opnum: int) -> None:
        self._content = content
        self._opnum = opnum
        self._floor = content.floor
        self._events: list[Counted] = []
        self._keys: set[int] = set()
        self._users: dict[tuple[int, bytes], None] = {}
        self._writers: dict[bytes, Row] = {}
        self._forgotten: list[bytes] = []
        self._tags: list[bytes] = []
        self.duplicates = 0
        self.known_keys = 0

    def add(self, batch: SubBatch[Posted]) -> int:
        """Apply a sub-batch if it is its writer's next one; return its outcome."""
        tag = batch.id.to_bytes(8, "big")
        row = self._row(batch.writer)
        if row is not None and batch.seq <= row.seq:
            self.duplicates += 1
            return CONTENT_DIFFERS if batch.seq == row.seq and tag != row.tag else OK
        if row is not None and batch.seq != row.seq + 1:
            return OUT_OF_ORDER
        if not self.takes(batch, row):
            return FORGOTTEN
        if row is None:
            self._make_room()
        self._writers[batch.writer] = Row(batch.seq, tag, batch.heard)
        self._tags.append(tag)
        for entry in batch.entries:
            self._count(entry.receipt)
        return OK

    def _row(self, writer: bytes) -> Row | None:
        if writer in self._writers:
            return self._writers[writer]
        return self._content.writers.get(writer) if writer not in self._forgotten else None

    def takes(self, batch: SubBatch[Posted], row: Row | None) -> bool:
        """Tell whether the next sub-batch of a writer is taken, by what it had heard."""
        return batch.heard <= self._opnum and (row is not None or batch.heard >= self._floor)

    def _make_room(self) -> None:
        """Forget some if there are too many: those that had heard least; the writers of this op stay."""
        known = {writer: row.heard for writer, row in self._content.writers.items() if writer not in self._forgotten}
        if len(known.keys() | self._writers.keys()) < WRITERS_MAX:
            return
        others = sorted((heard, writer) for writer, heard in known.items() if writer not in self._writers)
        for heard, writer in others[:FORGOTTEN_AT_ONCE]:
            self._forgotten.append(writer)
            self._floor = max(self._floor, heard + 1)

    def _count(self, event: Posted) -> None:
        if event.keyed:
            if event.number in self._keys or self._content.knows(event.number):
                self.known_keys += 1
                return
            self._keys.add(event.number)
        hour, user = event.hour, event.user
        self._events.append(Counted(hour, event.kind, user, event.number))
        cell = self._content.cells.get(hour)
        if cell is None or user not in cell[1]:
            self._users[hour, user] = None

    def finish(self, epoch: int, previous: OpName) -> Op | None:
        """Return the op, or None if nothing changes."""
        if not self._tags:
            return None
        name = OpName(epoch, previous.opnum + 1, xxh3_64_digest(previous.digest + b"".join(self._tags)))
        body = Body(
            tuple(self._events),
            tuple(self._users),
            tuple(self._writers.items()),
            tuple(self._forgotten),
            self._floor,
        )
        return Op(name, previous, body)


def build(
    content: Content, batches: Sequence[SubBatch[Posted]], epoch: int, previous: OpName
) -> tuple[Op | None, list[int], Building]:
    """Make an op of sub-batches; return it, and the outcome of each."""
    building = Building(content, previous.opnum)
    outcomes = [building.add(batch) for batch in batches]
    return building.finish(epoch, previous), outcomes, building
