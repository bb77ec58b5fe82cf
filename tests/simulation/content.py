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


class Counted(NamedTuple):
    """One event as an op counts it."""

    hour: int
    kind: int
    user: bytes
    number: int


class Body(NamedTuple):
    """What an op changes.

    Attributes:
        events: Counted once more each.
        users: (hour, user) that were not there before.
        writers: (writer, seq, tag of the sub-batch).
    """

    events: tuple[Counted, ...]
    users: tuple[tuple[int, bytes], ...]
    writers: tuple[tuple[bytes, int, bytes], ...]


class Content:
    """All that one copy holds, besides its head."""

    __slots__ = ("cells", "events", "writers")

    def __init__(self) -> None:
        self.cells: dict[int, tuple[list[int], set[bytes]]] = {}  # Hour -> [_, clicks, impressions], users.
        self.events: dict[int, int] = {}  # Number of the event -> how often it was counted; also the keys.
        self.writers: dict[bytes, tuple[int, bytes]] = {}

    def copy(self) -> "Content":
        """Return what a clone gets."""
        other = Content()
        other.cells = {hour: (list(counts), set(users)) for hour, (counts, users) in self.cells.items()}
        other.events = dict(self.events)
        other.writers = dict(self.writers)
        return other

    def equals(self, other: "Content") -> bool:
        """Compare all of it."""
        return self.cells == other.cells and self.events == other.events and self.writers == other.writers

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
        for writer, seq, tag in body.writers:
            self.writers[writer] = (seq, tag)

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

    def __init__(self, content: Content) -> None:
        self._content = content
        self._events: list[Counted] = []
        self._keys: set[int] = set()
        self._users: dict[tuple[int, bytes], None] = {}
        self._writers: dict[bytes, tuple[int, bytes]] = {}
        self._tags: list[bytes] = []
        self.duplicates = 0
        self.known_keys = 0

    def add(self, batch: SubBatch[Posted]) -> int:
        """Apply a sub-batch if it is its writer's next one; return its outcome."""
        tag = batch.id.to_bytes(8, "big")
        last, last_tag = self._writers.get(batch.writer) or self._content.writers.get(batch.writer, (0, b""))
        if batch.seq <= last:
            self.duplicates += 1
            return CONTENT_DIFFERS if batch.seq == last and tag != last_tag else OK
        if batch.seq != last + 1:
            return OUT_OF_ORDER
        self._writers[batch.writer] = (batch.seq, tag)
        self._tags.append(tag)
        for entry in batch.entries:
            self._count(entry.receipt)
        return OK

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
        writers = tuple((writer, seq, tag) for writer, (seq, tag) in self._writers.items())
        return Op(name, previous, Body(tuple(self._events), tuple(self._users), writers))


def build(
    content: Content, batches: Sequence[SubBatch[Posted]], epoch: int, previous: OpName
) -> tuple[Op | None, list[int], Building]:
    """Make an op of sub-batches; return it, and the outcome of each."""
    building = Building(content)
    outcomes = [building.add(batch) for batch in batches]
    return building.finish(epoch, previous), outcomes, building
