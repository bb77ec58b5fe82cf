"""Whether what another shard sends can be content of a slot: it is looked at before it is stored. Pure.

Else a shard would store what it can't read, and end as one whose disk is damaged, when somebody asks for it.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from protos.tally.internal.v1 import node_pb2
from shard.counting.keys import NUMBER_MAX, WriterRow, decode_counts
from shard.counting.op import OP_EVENTS_MAX
from shard.counting.writers import LIMITS
from tally.cluster.plausible import LEAP_MAX
from tally.event import HOUR_MAX, KEY_HASH_BYTES, TIMESTAMP_MS_MAX, USER_BYTES_MAX
from tally.hashing import Shape, first_slot_of

BODY_BYTES_MAX: Final = 2 * 2**20  # 1000 events of full length, each in a cell of its own, take 0.4 MiB.
PUTS_MAX: Final = 5 * OP_EVENTS_MAX  # Each event has a cell, a user, a key and a writer at most.
COUNT_MAX: Final = 2**60
LABEL_MAX: Final = 2**31

_GENERATION_BYTES: Final = 4
_CELL_BYTES: Final = 6  # Hour and bucket.
_COUNTS_BYTES: Final = 24
_WRITER_BYTES: Final = 16
_WRITER_ROW_BYTES: Final = 32  # And the refusals.
_KNOWN_BYTES: Final = 4 + KEY_HASH_BYTES
_LABEL_BYTES: Final = 4
_RANGES_MAX: Final = 16


class ContentCheck:
    """What can be content of one slot. Remembers cells that it has seen, so make one for each answer or message."""

    def __init__(self, slot: int, shape: Shape) -> None:
        self._slot = slot
        self._shape = shape
        self._cells: set[bytes] = set()

    def fault_of_body(self, body: bytes, opnum: int) -> str:
        """Return why ``body`` is no ``OpBody`` of this slot's op of that number; "" if it may be one."""
        if len(body) > BODY_BYTES_MAX:
            return "an op that is too large"
        try:
            wire = node_pb2.OpBody.FromString(body)
        except DecodeError:
            return "an op that can't be read"
        keys, deletes, starts, ends = wire.put_keys, wire.deletes, wire.range_starts, wire.range_ends
        if len(keys) != len(wire.put_values) or len(starts) != len(ends):
            return "columns of different length"
        if len(keys) > PUTS_MAX or len(deletes) > LIMITS.rows or len(starts) > _RANGES_MAX:
            return "an op that changes too much"
        return (
            fault_of_numbers(wire, opnum)
            or self.fault_of_entries(zip(keys, wire.put_values, strict=True))
            or _fault_of_removed(deletes, starts, ends)
        )

    def fault_of_entries(self, entries: Iterable[tuple[bytes, bytes]], *, generation: bool = False) -> str:
        """Return why one of these can't be content of this slot; "" if all may be.

        Args:
            entries: Keys and values.
            generation: The keys are those of a copy here, with their generation.
        """
        at = 1 + (_GENERATION_BYTES if generation else 0)
        shortest, longest, cell_end = at + _CELL_BYTES + 1, at + _CELL_BYTES + USER_BYTES_MAX, at + _CELL_BYTES
        cells: set[bytes] = set()
        for key, value in entries:
            # Nearly all are users: a busy slot's backup looks at each, so little is done for one.
            if key.startswith(b"u") and not value and shortest <= len(key) <= longest:
                cells.add(key[at:cell_end])
            elif not self._is_other_entry(key[:1], key[at:], value):
                return f"a key of kind {key[:1]!r} that is not of this slot, or its value"
        return "" if all(map(self._is_cell, cells)) else "users of another slot"

    def _is_other_entry(self, kind: bytes, rest: bytes, value: bytes) -> bool:
        match kind:
            case b"h":
                return len(rest) == _CELL_BYTES and _are_counts(value) and self._is_cell(rest)
            case b"w":
                fits = 0 <= len(value) - _WRITER_ROW_BYTES <= OP_EVENTS_MAX
                return len(rest) == _WRITER_BYTES and fits and WriterRow.decode(value).seq <= NUMBER_MAX
            case b"k":
                return len(rest) == _KNOWN_BYTES and not value
            case _:
                return False

    def _is_cell(self, cell: bytes) -> bool:
        if cell in self._cells:
            return True
        hour, bucket = int.from_bytes(cell[:4], "big"), int.from_bytes(cell[4:], "big")
        if hour > HOUR_MAX or bucket >= self._shape.spread_at(hour):
            return False
        if (first_slot_of(hour, self._shape) + bucket) % self._shape.slots != self._slot:
            return False
        self._cells.add(cell)
        return True


def fault_of_numbers(record: "node_pb2.OpBody | node_pb2.CloneEnd", opnum: int) -> str:
    """Return why no copy's record can have these numbers; "" if one may.

    Args:
        record: What is told of it.
        opnum: Of its head. Writers may have heard of later ops that were given up since, and the floor be above it.
    """
    if record.writers > LIMITS.rows:
        return "a number of writers"
    if record.floor > opnum + LEAP_MAX:
        return "a floor of writers"
    if record.label_ms > TIMESTAMP_MS_MAX or max(record.label, record.keys_label) > LABEL_MAX:
        return "a label of keys"
    return ""


def _are_counts(value: bytes) -> bool:
    return len(value) == _COUNTS_BYTES and max(decode_counts(value)) <= COUNT_MAX


def _fault_of_removed(deletes: Sequence[bytes], starts: Sequence[bytes], ends: Sequence[bytes]) -> str:
    """Only writers are removed one by one, and only known keys of past days as ranges."""
    if not all(len(key) == 1 + _WRITER_BYTES and key[:1] == b"w" for key in deletes):
        return "a deletion of what is not a writer"
    if not all(len(end) == 1 + _LABEL_BYTES and end[:1] == b"k" for end in (*starts, *ends)):
        return "a deletion of a range that is not one of known keys"
    return ""
