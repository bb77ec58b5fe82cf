"""One copy of a slot for tests, over a dictionary instead of a store."""

from collections.abc import Sequence
from typing import Final

from shard.counting.keys import CopyRecord, WriterRow, writer_range
from shard.counting.op import Counted, SubBatch, count, keys_to_read, locate, wants_rows
from shard.counting.writers import LIMITS, WriterLimits
from tally.event import Event
from tally.hashing import Shape
from tests.support.cluster_values import SMALL

NOW_MS: Final = 1_720_000_000_000
ANN: Final = b"writer of ann..."
BOB: Final = b"writer of bob..."


def sub_batch(writer: bytes, seq: int, *events: Event, heard: int = 0) -> SubBatch:
    """Return what a writer sends that had heard of so many committed ops."""
    return SubBatch(
        writer,
        seq,
        tuple(event.hour for event in events),
        tuple(event.user for event in events),
        bytes(event.kind for event in events),
        tuple(event.key for event in events) if any(event.key for event in events) else (),
        heard,
    )


class DictCopy:
    """What a copy of one slot has stored, and how ops change it."""

    def __init__(self, slot: int, *, shape: Shape = SMALL, epoch: int = 1, limits: WriterLimits = LIMITS) -> None:
        self.slot = slot
        self.limits = limits
        self.shape = shape
        self.record = CopyRecord(generation=7, incarnation=bytes(16), epoch=epoch)
        self.stored: dict[bytes, bytes] = {}

    def op(self, *batches: SubBatch, now_ms: int = NOW_MS) -> Counted:
        """Build the op of these sub-batches; nothing is stored."""
        located = [locate(batch, self.slot, self.record.generation, self.shape) for batch in batches]
        found = {key: self.stored.get(key) for key in keys_to_read(self.record, located, now_ms)}
        rows = None
        if wants_rows(self.record, located, found, self.limits):
            start, end = writer_range(self.record.generation)
            rows = {key: value for key, value in self.stored.items() if start <= key < end}
        return count(self.record, located, found, now_ms=now_ms, all_rows=rows, limits=self.limits)

    def commit(self, op: Counted) -> None:
        """Store what an op writes."""
        self.stored.update(op.puts)
        for key in op.deletes:
            del self.stored[key]
        for start, end in op.range_deletes:
            self.stored = {key: value for key, value in self.stored.items() if not start <= key < end}
        self.record = op.record

    def apply(self, *batches: SubBatch, now_ms: int = NOW_MS) -> Counted:
        """Build an op and store it."""
        op = self.op(*batches, now_ms=now_ms)
        self.commit(op)
        return op

    def rows(self, kind: bytes) -> dict[bytes, bytes]:
        """Return what is stored under one kind of keys: ``b"h"``, ``b"u"``, ``b"w"``, ``b"k"``."""
        return {key: value for key, value in self.stored.items() if key.startswith(kind)}

    def writers(self) -> Sequence[WriterRow]:
        """Return the rows of all writers."""
        return [WriterRow.decode(value) for value in self.rows(b"w").values()]
