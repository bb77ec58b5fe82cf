"""What a joiner makes of the answer to its Clone: writes under a new generation, or ops, and at the end what it got.

Invariants:
  * nothing of it counts before ``finish`` has checked order, count, digest and chain;
  * no key is written before the marker by which the next start drops what was never installed;
  * no key is written outside the new generation, whatever comes.

No clock, no I/O: what is to be written is returned.
"""

from itertools import islice
from typing import Final
from zlib import crc32

from google.protobuf.message import DecodeError

from protos.tally.internal.v1 import node_pb2
from shard.clones.cloning import CATCH_UP_BYTES_MAX, CloneBroken, Staged, chained
from shard.counting.changes import WRITE_ENTRIES, Changes
from shard.counting.content import fault_of_numbers
from shard.counting.keys import CONTENT_KINDS, staging_key, with_generation
from shard.replica.plausible import is_op
from shard.replica.wire import op_from_wire
from shard.replica.words import Cloned, Op


class CloneTarget:
    """One answer to a Clone while it comes."""

    def __init__(self, generation: int) -> None:
        """Take it in under ``generation``, which no other copy here has or had since the start."""
        self._generation: Final = generation
        self._header: node_pb2.CloneHeader | None = None
        self._end: node_pb2.CloneEnd | None = None
        self._ops: list[Op] = []
        self._count = 0
        self._digest = b""
        self._bytes = 0

    @property
    def staged(self) -> bool:
        """Something was to be written."""
        return self._header is not None and not self._header.catch_up and self._count > 0

    @property
    def bytes_so_far(self) -> int:
        """How many bytes have come."""
        return self._bytes

    def take(self, message: node_pb2.CloneResponse) -> list[Changes]:
        """Take the next message in; return what to write now, in groups that ``Store.write`` takes at once.

        Raises:
            CloneBroken: It is damaged, or does not belong here.
        """
        self._bytes += message.ByteSize()
        part = message.WhichOneof("part")
        if part == "header":
            self._take_header(message.header)
            return []
        if self._header is None or not self._header.granted or self._end is not None:
            raise CloneBroken(f"{part} out of place")
        if part == "ops" and self._header.catch_up:
            self._take_ops(message.ops)
        elif part == "entries" and not self._header.catch_up:
            return self._take_entries(message.entries)
        elif part == "end":
            self._end = message.end
        else:
            raise CloneBroken(f"{part} out of place")
        return []

    def _take_header(self, header: node_pb2.CloneHeader) -> None:
        if self._header is not None:
            raise CloneBroken("a second header")
        if header.granted and not (header.epoch and is_op(op_from_wire(header.head))):
            raise CloneBroken("a malformed header")
        self._header = header

    def _take_ops(self, chunk: node_pb2.CloneOps) -> None:
        if self._bytes > 2 * CATCH_UP_BYTES_MAX:
            raise CloneBroken("more ops than a catch-up may have")
        for wire in chunk.ops:
            op = op_from_wire(wire)
            if not is_op(op) or op.body is None:
                raise CloneBroken("a malformed op")
            if self._ops and op.previous != self._ops[-1].name:
                raise CloneBroken("a gap between ops")
            self._ops.append(op)

    def _take_entries(self, chunk: node_pb2.CloneEntries) -> list[Changes]:
        if crc32(chunk.columns) != chunk.crc:
            raise CloneBroken("a damaged chunk")
        try:
            columns = node_pb2.EntryColumns.FromString(chunk.columns)
        except DecodeError as exc:
            raise CloneBroken("a malformed chunk") from exc
        if len(columns.keys) != len(columns.values):
            raise CloneBroken("columns of different length")
        if not all(key and key[0] in CONTENT_KINDS for key in columns.keys):
            raise CloneBroken("a key that is not of a copy's content")
        puts = [] if self._count else [(staging_key(self._generation), b"")]
        puts.extend(
            (with_generation(self._generation, key), value)
            for key, value in zip(columns.keys, columns.values, strict=True)
        )
        self._count += len(columns.keys)
        self._digest = chained(self._digest, chunk.columns)
        rest = iter(puts)
        return [Changes(group) for group in iter(lambda: list(islice(rest, WRITE_ENTRIES)), [])]

    def finish(self) -> Cloned:
        """Return what came, after the last message; ``content`` is a ``Staged`` unless there are ops.

        Raises:
            CloneBroken: It is not whole.
        """
        if self._header is None:
            raise CloneBroken("no header")
        if not self._header.granted:
            return Cloned(granted=False)
        if self._end is None:
            raise CloneBroken("no end")
        head = op_from_wire(self._header.head)
        if self._header.catch_up:
            return self._caught_up(self._header.epoch, head, self._end)
        if self._end.count != self._count:
            raise CloneBroken(f"{self._count} entries of {self._end.count}")
        if self._end.digest != self._digest:
            raise CloneBroken("another digest")
        end = self._end
        if fault := fault_of_numbers(end, head.name.opnum):
            raise CloneBroken(fault)
        staged = Staged(self._generation, end.writers, end.floor, end.label, end.label_ms, end.keys_label)
        return Cloned(granted=True, epoch=self._header.epoch, head=head, content=staged)

    def _caught_up(self, epoch: int, head: Op, end: node_pb2.CloneEnd) -> Cloned:
        if end.count != len(self._ops):
            raise CloneBroken(f"{len(self._ops)} ops of {end.count}")
        if self._ops and self._ops[-1].name != head.name:
            raise CloneBroken("the ops do not lead to the head")
        return Cloned(granted=True, epoch=epoch, ops=tuple(self._ops), head=head)
