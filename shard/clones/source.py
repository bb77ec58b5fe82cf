"""What a primary answers a Clone with: the ops that a copy has missed, or all that there is (PROTOCOL rule 9).

Invariants:
  * all comes from one snapshot, so what is written meanwhile is not in it;
  * ops are given only to a copy whose head is in the log by its whole name, and only without a gap; of many the first,
    for it calls again from there, and what came meanwhile is less each time;
  * one chunk is in memory at a time.

It blocks: its driver takes the parts one by one, in a thread; it closes the generator,
then the snapshot.
"""

from collections.abc import Generator, Iterator
from typing import Final, Protocol
from zlib import crc32

from protos.tally.internal.v1 import node_pb2
from shard.clones.cloning import CATCH_UP_BYTES_MAX, CHUNK_BYTES, chained, head_name
from shard.counting.keys import CopyRecord, content_ranges, log_key, without_generation
from shard.counting.op_log import LogEntry
from shard.replica.wire import op_to_wire
from shard.replica.words import Op
from tally.cluster.op_name import OpName

_ENTRY_BYTES: Final = 4  # What a short key and its value add to a message.


class Scannable(Protocol):
    """Something that does not change while it is read; a ``Snapshot``."""

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values from ``start`` up to, without, ``end``."""
        ...


def clone_parts(
    snapshot: Scannable, record: CopyRecord, head: Op, epoch: int, after: OpName | None
) -> Generator[node_pb2.CloneResponse, None, None]:
    """Yield the messages that answer a Clone.

    Args:
        snapshot: Of the moment at which ``record`` was stored and nothing newer.
        record: The record of this copy.
        head: Its last op, by the name that stands in ``record``.
        epoch: In which this copy is primary.
        after: The head of the complete copy that the other has; None if it has none.

    Raises:
        StoreCorrupt: Something can't be read; what was yielded so far is worth nothing.
    """
    assert head.name == head_name(record)
    last = _last_op(snapshot, record, head, after) if after is not None else None
    header = node_pb2.CloneHeader(granted=True, epoch=epoch, head=op_to_wire(last or head), catch_up=last is not None)
    yield node_pb2.CloneResponse(header=header)
    if after is not None and last is not None:
        yield from _ops(snapshot, record.generation, after, last.name)
    else:
        yield from _entries(snapshot, record)


def refusal() -> node_pb2.CloneResponse:
    """Return the one message that answers a Clone when there is nothing to give now."""
    return node_pb2.CloneResponse(header=node_pb2.CloneHeader(granted=False))


def _last_op(snapshot: Scannable, record: CopyRecord, head: Op, after: OpName) -> Op | None:
    """Return the last op to give to who has ``after``; None if the log does not lead from there to the head."""
    if after == head.name:
        return head
    if not record.log_from or not record.log_from <= after.opnum < head.name.opnum:
        return None
    total = 0
    last: Op | None = None
    reached: OpName | None = None
    for _, value in snapshot.scan(*_log_range(record.generation, after.opnum, record.opnum)):
        entry = LogEntry.decode(value)
        if reached is None:
            # By the whole name: another epoch may have had another op of this number.
            if entry.name != after:
                return None
        else:
            total += len(value)
            if entry.previous != reached or not entry.body:
                return None
            if total <= CATCH_UP_BYTES_MAX:
                last = Op(*entry)
        reached = entry.name
    return last if reached == head.name else None


def _log_range(generation: int, first: int, last: int) -> tuple[bytes, bytes]:
    return log_key(generation, first), log_key(generation, last + 1)


def _ops(snapshot: Scannable, generation: int, after: OpName, last: OpName) -> Iterator[node_pb2.CloneResponse]:
    count = size = 0
    chunk = node_pb2.CloneOps()
    for _, value in snapshot.scan(*_log_range(generation, after.opnum + 1, last.opnum)):
        if chunk.ops and size + len(value) > CHUNK_BYTES:
            yield node_pb2.CloneResponse(ops=chunk)
            chunk, size = node_pb2.CloneOps(), 0
        chunk.ops.append(op_to_wire(Op(*LogEntry.decode(value))))
        count += 1
        size += len(value)
    if chunk.ops:
        yield node_pb2.CloneResponse(ops=chunk)
    yield node_pb2.CloneResponse(end=node_pb2.CloneEnd(count=count))


def _entries(snapshot: Scannable, record: CopyRecord) -> Iterator[node_pb2.CloneResponse]:
    count = 0
    digest = b""
    for chunk in _chunks(snapshot, record.generation):
        columns = chunk.SerializeToString()
        digest = chained(digest, columns)
        count += len(chunk.keys)
        yield node_pb2.CloneResponse(entries=node_pb2.CloneEntries(columns=columns, crc=crc32(columns)))
    yield node_pb2.CloneResponse(
        end=node_pb2.CloneEnd(
            count=count,
            digest=digest,
            writers=record.writers,
            floor=record.floor,
            label=record.label,
            label_ms=record.label_ms,
            keys_label=record.keys_label,
        )
    )


def _chunks(snapshot: Scannable, generation: int) -> Iterator[node_pb2.EntryColumns]:
    size = 0
    chunk = node_pb2.EntryColumns()
    for start, end in content_ranges(generation):
        for key, value in snapshot.scan(start, end):
            bare = without_generation(key)
            chunk.keys.append(bare)
            chunk.values.append(value)
            size += len(bare) + len(value) + _ENTRY_BYTES
            if size >= CHUNK_BYTES:
                yield chunk
                chunk, size = node_pb2.EntryColumns(), 0
    if chunk.keys:
        yield chunk
