"""What stands where in RocksDB. Pure: values to bytes and back.

| key | value |
|---|---|
| ``c`` slot | the copy's record: generation, incarnation, epoch, head, writers, floor, label |
| ``h`` generation hour bucket | counts of a cell: clicks, impressions, users |
| ``u`` generation hour bucket user | nothing: that the user was there is all |
| ``w`` generation writer | what the writer sent last, and how that went |
| ``k`` generation label hash | nothing: that an event with this idempotency key was counted under that label is all |
| ``o`` generation opnum | an op of the log, for copies that missed it: see ``shard/counting/op_log.py`` |
| ``s`` generation | nothing: that a copy under this generation was begun, and is to be dropped at the next start |
| ``t`` | time of the last sign of life, for a disk that has nothing else to write |
| ``0xff`` number | nothing: that this is the last write is all; the store's own, see ``shard/storage/links.py`` |

Numbers are big-endian, so that keys sort by them. The generation is a number of this directory, another one for each
copy that is made anew: dropping a copy is one range deletion for each kind of keys, and its keys are never taken for
those of the next. Its log goes with it: what the log of a dropped copy held may never have been committed.

Directories of format 2, from before writers had a floor and keys had labels, are read as they are. A row of theirs
tells when its writer came last instead of what it had heard, which counts as nothing; a record has neither floor nor
label, and its keys stand under days since the epoch.
"""

import struct
from typing import Final, NamedTuple

from tally.errors import StoreCorrupt

_CELL: Final = struct.Struct(">IIH")
_COUNTS: Final = struct.Struct(">QQQ")
_WRITER: Final = struct.Struct(">QQ16s")
_RECORD: Final = struct.Struct(">I16sQQQ16sIQQIQQI")
_RECORD_OF_FORMAT_2: Final = struct.Struct(">I16sQQQ16sIQQIQQ")
_LABEL: Final = struct.Struct(">II")
_LOG: Final = struct.Struct(">IQ")

HEARTBEAT_KEY: Final = b"t"

NUMBER_MAX: Final = 2**63 - 1
"""Of a sub-batch, and of what its writer has heard: the bit above tells a row from one of format 2."""

_HAS_HEARD: Final = NUMBER_MAX + 1


class Counts(NamedTuple):
    """The row of a cell."""

    clicks: int = 0
    impressions: int = 0
    users: int = 0

    def encode(self) -> bytes:
        """Return the stored bytes."""
        return _COUNTS.pack(*self)

    @classmethod
    def decode(cls, value: bytes | None) -> "Counts":
        """Read what ``encode`` wrote; nothing stored is zeros."""
        return cls(*decode_counts(value))


def decode_counts(value: bytes | None) -> tuple[int, int, int]:
    """Return clicks, impressions and users of a row; a reader of an hour needs many of them, and nothing more."""
    if value is None:
        return 0, 0, 0
    try:
        clicks, impressions, users = _COUNTS.unpack(value)
    except struct.error as exc:
        raise StoreCorrupt("the counts of a cell") from exc
    return clicks, impressions, users


class WriterRow(NamedTuple):
    """What one writer sent last to one slot.

    Attributes:
        seq: Number of its last sub-batch.
        heard: The highest committed opnum that it had heard when it numbered that; up to ``NUMBER_MAX``.
        content: Digest of that sub-batch, 16 bytes.
        refusals: What was answered: one byte per event, or nothing if all were counted.
    """

    seq: int
    heard: int
    content: bytes
    refusals: bytes

    def encode(self) -> bytes:
        """Return the stored bytes."""
        return _WRITER.pack(self.seq, _HAS_HEARD | self.heard, self.content) + self.refusals

    @classmethod
    def decode(cls, value: bytes) -> "WriterRow":
        """Read what ``encode`` wrote, or a row of format 2."""
        try:
            seq, heard, content = _WRITER.unpack_from(value)
        except struct.error as exc:
            raise StoreCorrupt("the row of a writer") from exc
        return cls(seq, _heard(heard), content, value[_WRITER.size :])


def heard_of(value: bytes) -> int:
    """Return ``heard`` of a stored row; who looks for the lowest needs many of them, and nothing more."""
    try:
        _, heard, _ = _WRITER.unpack_from(value)
    except struct.error as exc:
        raise StoreCorrupt("the row of a writer") from exc
    return _heard(heard)


def _heard(stored: int) -> int:
    """Return what a writer had heard; 0 if the row has a time there, which has no such bit."""
    return stored - _HAS_HEARD if stored >= _HAS_HEARD else 0


class CopyRecord(NamedTuple):
    """What a copy of a slot knows of itself; written in one batch with what it counts.

    Attributes:
        generation: What its keys begin with.
        incarnation: 16 bytes; the map names the copy by them.
        epoch: The highest epoch seen.
        head_epoch, opnum, digest: Name of the last op, and a digest that chains over all ops.
        writers: How many writers' rows there are.
        label_ms: When the label began, by the clock of who was primary then, in milliseconds since the epoch. Without
            a label the time of the last op.
        floor: Above every number that a forgotten writer had heard; 0 while none was forgotten. Never falls.
        keys_label: The last label under which an idempotency key was stored; 0 for never.
        log_from: Opnum of the first op in the log; 0: no log is kept. It and ``log_bytes`` are this copy's own.
        log_bytes: About how much the log holds.
        label: Under which idempotency keys are stored now, see ``shard/counting/labels.py``; 0 while none has begun.
    """

    generation: int
    incarnation: bytes
    epoch: int
    head_epoch: int = 0
    opnum: int = 0
    digest: bytes = bytes(16)
    writers: int = 0
    label_ms: int = 0
    floor: int = 0
    keys_label: int = 0
    log_from: int = 0
    log_bytes: int = 0
    label: int = 0

    def encode(self) -> bytes:
        """Return the stored bytes."""
        return _RECORD.pack(*self)

    @classmethod
    def decode(cls, value: bytes) -> "CopyRecord":
        """Read what ``encode`` wrote, or a record of format 2."""
        try:
            if len(value) == _RECORD_OF_FORMAT_2.size:
                # It has another time where the floor stands.
                return cls(*_RECORD_OF_FORMAT_2.unpack(value))._replace(floor=0)
            return cls(*_RECORD.unpack(value))
        except struct.error as exc:
            raise StoreCorrupt("the record of a copy") from exc


RECORDS: Final = (b"c", b"d")
"""The range of all copies' records."""

STAGED: Final = (b"s", HEARTBEAT_KEY)
"""The range of all markers of copies that were begun."""

CONTENT_KINDS: Final = b"huwk"
"""What keys of a copy's content begin with: what another copy must have, too."""


def record_key(slot: int) -> bytes:
    """Return where the record of the copy of ``slot`` stands."""
    return b"c" + slot.to_bytes(2, "big")


def slot_of_record(key: bytes) -> int:
    """Return whose record stands at ``key``."""
    return int.from_bytes(key[1:], "big")


def cell_key(generation: int, hour: int, bucket: int) -> bytes:
    """Return where the counts of a cell stand."""
    return b"h" + _CELL.pack(generation, hour, bucket)


def user_key(cell: bytes, user: bytes) -> bytes:
    """Return the key that says that ``user`` was there in the cell whose counts stand at ``cell``."""
    return b"u" + cell[1:] + user


def writer_key(generation: int, writer: bytes) -> bytes:
    """Return where the row of ``writer`` stands."""
    return b"w" + generation.to_bytes(4, "big") + writer


def writer_range(generation: int) -> tuple[bytes, bytes]:
    """Return the range (from, up to but without) of all writers' rows of a copy."""
    return b"w" + generation.to_bytes(4, "big"), b"w" + (generation + 1).to_bytes(4, "big")


def known_key(generation: int, label: int, key: bytes) -> bytes:
    """Return the key that says that an event known by ``key`` was counted under ``label``."""
    return b"k" + _LABEL.pack(generation, label) + key


def known_keys_before(generation: int, label: int) -> tuple[bytes, bytes]:
    """Return the range (from, up to but without) of all keys of a copy from labels before ``label``."""
    return b"k" + _LABEL.pack(generation, 0), b"k" + _LABEL.pack(generation, label)


def log_key(generation: int, opnum: int) -> bytes:
    """Return where the op with number ``opnum`` stands in the log."""
    return b"o" + _LOG.pack(generation, opnum)


def staging_key(generation: int) -> bytes:
    """Return the key that says that a copy under ``generation`` was begun and never installed."""
    return b"s" + generation.to_bytes(4, "big")


def content_ranges(generation: int) -> list[tuple[bytes, bytes]]:
    """Return the ranges (from, up to but without) of all that another copy must have, too."""
    return [_range_of(kind, generation) for kind in CONTENT_KINDS]


def generation_ranges(generation: int) -> list[tuple[bytes, bytes]]:
    """Return the ranges (from, up to but without) of all keys of a copy: its content and its log."""
    return [*content_ranges(generation), _range_of(ord("o"), generation)]


def _range_of(kind: int, generation: int) -> tuple[bytes, bytes]:
    return bytes([kind]) + generation.to_bytes(4, "big"), bytes([kind]) + (generation + 1).to_bytes(4, "big")


def without_generation(key: bytes) -> bytes:
    """Return a key of a copy as other shards know it."""
    return key[:1] + key[5:]


def with_generation(generation: int, key: bytes) -> bytes:
    """Return the key of a copy here that ``without_generation`` made ``key`` of elsewhere."""
    return key[:1] + generation.to_bytes(4, "big") + key[1:]
