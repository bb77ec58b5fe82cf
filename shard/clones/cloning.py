"""What both sides of a Clone agree on, and what is left of a copy that came that way. Pure."""

from typing import Final, NamedTuple

from xxhash import xxh3_128_digest

from shard.counting.changes import Changes
from shard.counting.keys import CopyRecord, generation_ranges, staging_key
from tally.cluster.op_name import NOTHING, OpName
from tally.errors import TallyError

CHUNK_BYTES: Final = 2**20
CATCH_UP_BYTES_MAX: Final = 16 * 2**20  # The joiner holds the ops in memory until all have come.


class CloneBroken(TallyError):
    """What came is not a whole clone; what was written of it is to be dropped. Ask again, under another name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the clone is broken: {self.reason}"


class Staged(NamedTuple):
    """A copy that is written, and not installed yet: what its record is to say.

    Attributes:
        generation: What its keys begin with here.
        writers, floor, label, label_ms, keys_label: As in ``CopyRecord``.
    """

    generation: int
    writers: int
    floor: int
    label: int
    label_ms: int
    keys_label: int


def head_name(record: CopyRecord) -> OpName:
    """Return the name of the last op of a copy; ``NOTHING`` before the first, whose record has 16 zeros."""
    return OpName(record.head_epoch, record.opnum, record.digest) if record.opnum else NOTHING


def chained(digest: bytes, columns: bytes) -> bytes:
    """Return the digest of all chunks up to one, from that of all before it; the first one follows ``b""``."""
    return xxh3_128_digest(digest + columns)


def drop_changes(generation: int) -> Changes:
    """Return what removes all that was written of a copy, and its marker."""
    return Changes([], [staging_key(generation)], generation_ranges(generation))
