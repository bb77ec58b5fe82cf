"""A copy to clone: content under one generation, and a log of made-up ops."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from protos.tally.internal.v1 import node_pb2
from shard.clones.target import CloneTarget
from shard.counting.changes import Changes
from shard.counting.keys import CopyRecord, Counts, WriterRow, cell_key, known_key, log_key, user_key, writer_key
from shard.counting.op_log import LogEntry
from shard.replica.words import Cloned, Op
from tally.cluster.op_name import NOTHING, OpName

GENERATION: Final = 7
OWN: Final = 9
"""Generation of the copy that comes to be."""


def content(generation: int, *, users: int) -> list[tuple[bytes, bytes]]:
    """Return keys of all kinds, for a copy with that many users."""
    entries: list[tuple[bytes, bytes]] = []
    for number in range(users):
        cell = cell_key(generation, 478_000 + number % 5, number % 3)
        entries += [
            (cell, Counts(number, 1, 2).encode()),
            (user_key(cell, b"user %d" % number), b""),
            (writer_key(generation, b"%016d" % (number % 100)), WriterRow(1, 2, bytes(16), b"\1").encode()),
            (known_key(generation, 20_000, b"%016d" % number), b""),
        ]
    return sorted(dict(entries).items())


def name(opnum: int, *, epoch: int = 1, branch: bytes = b"a") -> OpName:
    """Return the name of an op; that of op 0 is ``NOTHING``."""
    return OpName(epoch, opnum, branch * 8 + b"%08d" % opnum) if opnum else NOTHING


def logged(generation: int, opnums: Iterable[int], *, body: bytes = b"body") -> list[tuple[bytes, bytes]]:
    """Return the entries of a log."""
    return [(log_key(generation, opnum), LogEntry(name(opnum), name(opnum - 1), body).encode()) for opnum in opnums]


def head_op(opnum: int) -> Op:
    return Op(name(opnum), name(opnum - 1), b"body") if opnum else Op()


def record(opnum: int, *, log_from: int = 0, generation: int = GENERATION) -> CopyRecord:
    """Return the record of a copy whose head is ``name(opnum)``."""
    epoch, _, digest = name(opnum) if opnum else OpName(0, 0, bytes(16))
    made = CopyRecord(generation, bytes(16), 3, epoch, opnum, digest, 100, 1_000, 900, 20_000, label=20_001)
    return made._replace(log_from=log_from)


class Still:
    """A dictionary that is read like a snapshot; counts what was read."""

    def __init__(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        self.entries: Mapping[bytes, bytes] = dict(sorted(entries))
        self.read = 0

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self.entries.items():
            if start <= key < end:
                self.read += 1
                yield key, value


def received(messages: Iterable[node_pb2.CloneResponse]) -> tuple[Cloned, list[Changes]]:
    """Take all messages in, as they come over the wire; return what came, and what was to be written."""
    target = CloneTarget(OWN)
    changes: list[Changes] = []
    for message in messages:
        changes += target.take(node_pb2.CloneResponse.FromString(message.SerializeToString()))
    return target.finish(), changes
