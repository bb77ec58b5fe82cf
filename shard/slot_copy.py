"""One copy of a slot on this shard: its record, its queue, and what is under way.

Invariants:
  * op n + 1 is taken when op n is committed;
  * readers see committed counts only: while an op is under way the counts from before it are kept here;
  * a copy serves only in the epoch that the map gives it, and never below the one that it stored (PROTOCOL rule 2).

No clock, no I/O.
"""

from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, NamedTuple

from protos.tally.internal.v1 import node_pb2
from shard.keys import CopyRecord
from shard.op import OP_EVENTS_MAX, Answer, Op, SubBatch
from tally.cluster.slot_map import SlotRow

Reply = Callable[[Answer, int], None]
"""Tells a sender what became of its sub-batch: the answer, and the slot's epoch here."""


class Arrived(NamedTuple):
    """A sub-batch that waits for its op, and how to answer it."""

    batch: SubBatch
    reply: Reply


class Standing(Enum):
    """What a shard is to a slot, by a row of the map and by what it has stored."""

    SERVING = "serving"
    FOUNDING = "founding"  # The map names a copy of this directory that was never written: begin it, empty.
    ELSEWHERE = "elsewhere"  # Another shard is primary.
    NO_COPY = "no copy"  # The map names this shard, but another copy than it has.
    OUTDATED = "outdated"  # The row is older than what this copy has seen.


def standing(row: SlotRow, record: CopyRecord | None, shard: str, directory: str) -> Standing:
    """Decide what ``shard`` is to a slot.

    Args:
        row: The slot's row of the map.
        record: What this shard has stored of its copy, if anything.
        shard: Its id.
        directory: 32 hex digits of its data directory; the incarnation of the copies that founded the cluster.
    """
    if row.primary != shard:
        return Standing.ELSEWHERE
    incarnation = row.in_sync[shard]
    if record is None:
        founding = row.epoch == 1 and incarnation == directory
        return Standing.FOUNDING if founding else Standing.NO_COPY
    if record.incarnation.hex() != incarnation:
        return Standing.NO_COPY
    return Standing.OUTDATED if row.epoch < record.epoch else Standing.SERVING


class SlotCopy:
    """A serving copy."""

    def __init__(self, slot: int, record: CopyRecord) -> None:
        self.slot: Final = slot
        self.record = record
        self._queue: deque[Arrived] = deque()
        self._under_way: Op | None = None

    @property
    def ready(self) -> bool:
        """An op can be taken."""
        return self._under_way is None and bool(self._queue)

    @property
    def before(self) -> Mapping[bytes, bytes | None]:
        """The committed counts of the cells that the op under way touches; read these instead of what is stored."""
        return self._under_way.before if self._under_way else {}

    def enqueue(self, arrived: Arrived) -> None:
        """Let a sub-batch wait for the next op."""
        self._queue.append(arrived)

    def take(self) -> list[Arrived]:
        """Take the sub-batches of the next op: as many as fit into ``OP_EVENTS_MAX`` events, at least one."""
        assert self._under_way is None
        taken: list[Arrived] = []
        events = 0
        while self._queue and (not taken or events + len(self._queue[0].batch.hours) <= OP_EVENTS_MAX):
            taken.append(self._queue.popleft())
            events += len(taken[-1].batch.hours)
        return taken

    def begin(self, op: Op) -> None:
        """Note that ``op`` is being written: from now on readers get the counts from before it."""
        assert self._under_way is None
        self._under_way = op

    def commit(self) -> None:
        """Note that the op under way is durable on every required copy."""
        assert self._under_way is not None
        self.record = self._under_way.record
        self._under_way = None

    def refuse_all(self) -> list[Arrived]:
        """Empty the queue: this copy serves no longer."""
        refused = list(self._queue)
        self._queue.clear()
        return refused


def outcome_for(row_epoch: int, batch_epoch: int) -> node_pb2.Outcome.ValueType:
    """Compare the epoch that a sender routed by with that of the serving copy."""
    if batch_epoch == row_epoch:
        return node_pb2.OUTCOME_OK
    # Who routes by an older row must read the map; if ours is the older one, it will soon be newer.
    return node_pb2.OUTCOME_NOT_OWNER if batch_epoch < row_epoch else node_pb2.OUTCOME_NOT_READY
