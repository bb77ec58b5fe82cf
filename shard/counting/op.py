"""One op of a slot: sub-batches and what is stored go in; what to write and what to answer comes out.

Invariants:
  * a sub-batch is counted when its number follows the writer's last one, and never again (``writers.py``);
  * an event whose idempotency key is known under the op's label or one before it is counted no more (``labels.py``);
  * a user is added to a cell's users exactly when the user's key is written;
  * counts, users, writers' rows, known keys and head of an op are one atomic write;
  * what is refused uses up its number too, so that no gap comes to be.

No clock, no I/O: the time and all that is stored are arguments.
"""

import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Final, NamedTuple

from xxhash import xxh3_128_digest

from protos.tally.internal.v1 import node_pb2
from shard.counting.keys import (
    CopyRecord,
    Counts,
    cell_key,
    user_key,
    writer_key,
)
from shard.counting.labels import label_of, outdated_keys, where_known
from shard.counting.writers import LIMITS, Answer, WriterLimits, Writers
from tally.event import Kind, Refusal, refusal_of
from tally.hashing import Shape, bucket_among, first_slot_of

OP_EVENTS_MAX: Final = 1000

_REST: Final = struct.Struct(">IQQ")


class SubBatch(NamedTuple):
    """What one writer sends to one slot at once: columns of equal length, 1 to ``OP_EVENTS_MAX`` events.

    The column of keys is empty if no event has one; an entry of it is what ``key_hash`` gave, or empty. ``heard`` is
    the highest committed opnum of the slot that the writer had heard when it numbered this.
    """

    writer: bytes
    seq: int
    hours: Sequence[int]
    users: Sequence[bytes]
    kinds: bytes
    keys: Sequence[bytes] = ()
    heard: int = 0

    @property
    def content(self) -> bytes:
        """Digest of the columns, 16 bytes."""
        columns = [array("I", self.hours).tobytes(), array("I", map(len, self.users)).tobytes(), self.kinds]
        if self.keys:
            columns += [bytes(map(len, self.keys)), *self.keys]
        return xxh3_128_digest(b"".join((*columns, *self.users)))


class Share(NamedTuple):
    """What a sub-batch's events without idempotency keys add to one cell; each user's key as often as it came."""

    cell: bytes
    clicks: int
    impressions: int
    users: Sequence[bytes]


class Keyed(NamedTuple):
    """An event with an idempotency key: it counts in its cell if the key is not known."""

    cell: bytes
    user: bytes
    kind: int
    key: bytes


class Located(NamedTuple):
    """A sub-batch with the keys that it touches; ``refusals`` has one byte per event, or nothing if all count."""

    batch: SubBatch
    writer_key: bytes
    shares: Sequence[Share]
    keyed: Sequence[Keyed]
    refusals: bytes


@dataclass(slots=True)
class Counted:
    """What an op writes and answers: it is built of this.

    Attributes:
        record: The copy's record after it.
        puts: Keys and values, written at once, together with the record; none if nothing changes.
        deletes: Keys removed in the same write.
        range_deletes: Ranges of keys removed in the same write.
        before: For each cell that it touches the stored counts from before; None where there were none.
        answers: One for each sub-batch, in order.
    """

    record: CopyRecord
    answers: list[Answer]
    puts: list[tuple[bytes, bytes]] = field(default_factory=list)
    deletes: list[bytes] = field(default_factory=list)
    range_deletes: list[tuple[bytes, bytes]] = field(default_factory=list)
    before: dict[bytes, bytes | None] = field(default_factory=dict)


def locate(batch: SubBatch, slot: int, generation: int, shape: Shape) -> Located:
    """Find the keys of every event of a sub-batch that was sent to ``slot``."""
    cells: dict[int, _Cell | None] = {}
    keyed: list[Keyed] = []
    refusals: dict[int, Refusal] = {}
    for number, (hour, user, kind, key) in enumerate(
        zip(batch.hours, batch.users, batch.kinds, batch.keys or repeat(b""), strict=False)
    ):
        refusal = refusal_of(hour, user, kind)
        if refusal is not Refusal.COUNTED:
            refusals[number] = refusal
            continue
        cell = cells[hour] if hour in cells else cells.setdefault(hour, _cell_of(hour, slot, generation, shape))
        if cell is None or bucket_among(user, cell.spread) != cell.bucket:
            refusals[number] = Refusal.OTHER_SLOT
        elif key:
            keyed.append(Keyed(cell.key, cell.users_prefix + user, kind, key))
        else:
            cell.users.append(cell.users_prefix + user)
            cell.clicks += kind == Kind.CLICK
    shares = [
        Share(cell.key, cell.clicks, len(cell.users) - cell.clicks, cell.users)
        for cell in cells.values()
        if cell is not None and cell.users
    ]
    told = bytes(refusals.get(number, 0) for number in range(len(batch.hours))) if refusals else b""
    return Located(batch, writer_key(generation, batch.writer), shares, keyed, told)


class _Cell:
    """The one cell of an hour that a slot owns, and what a sub-batch adds to it."""

    __slots__ = ("bucket", "clicks", "key", "spread", "users", "users_prefix")

    def __init__(self, generation: int, hour: int, bucket: int, spread: int) -> None:
        self.bucket = bucket
        self.spread = spread
        self.key = cell_key(generation, hour, bucket)
        self.users_prefix = user_key(self.key, b"")
        self.users: list[bytes] = []
        self.clicks = 0


def _cell_of(hour: int, slot: int, generation: int, shape: Shape) -> _Cell | None:
    """Return the cell of an hour that ``slot`` owns; None if it owns none: buckets stand in slots side by side."""
    bucket, spread = (slot - first_slot_of(hour, shape)) % shape.slots, shape.spread_at(hour)
    return _Cell(generation, hour, bucket, spread) if bucket < spread else None


def keys_to_read(record: CopyRecord, batches: Sequence[Located], now_ms: int) -> set[bytes]:
    """Return every key whose stored value ``count`` needs, given the same record and time."""
    keys = {located.writer_key for located in batches}
    label = label_of(record, now_ms)
    for located in batches:
        for share in located.shares:
            keys.add(share.cell)
            keys.update(share.users)
        for one in located.keyed:
            keys.add(one.cell)
            keys.add(one.user)
            keys.update(where_known(record.generation, label, one.key))
    return keys


def wants_rows(
    record: CopyRecord,
    batches: Sequence[Located],
    found: Mapping[bytes, bytes | None],
    limits: WriterLimits = LIMITS,
) -> bool:
    """Tell whether ``count`` needs all writers' rows, because it may have to forget some."""
    if record.writers + len(batches) <= limits.rows:
        return False
    new = {
        located.writer_key
        for located in batches
        if found[located.writer_key] is None and record.floor <= located.batch.heard <= record.opnum
    }
    return bool(new) and record.writers + len(new) > limits.rows


def count(
    record: CopyRecord,
    batches: Sequence[Located],
    found: Mapping[bytes, bytes | None],
    *,
    now_ms: int,
    all_rows: Mapping[bytes, bytes] | None = None,
    limits: WriterLimits = LIMITS,
) -> Counted:
    """Build the op that applies ``batches`` to a copy.

    Args:
        record: The copy's record as it is stored.
        batches: In the order in which they came.
        found: What is stored under each of ``keys_to_read``; None where nothing is.
        now_ms: This shard's clock, the same that ``keys_to_read`` was given.
        all_rows: All writers' rows, if ``wants_rows`` says so.
        limits: How many writers are known.
    """
    return _Counting(record, found, now_ms, Writers(record, found, all_rows, limits)).run(batches)


class _Counting:
    """An op while it is built."""

    def __init__(self, record: CopyRecord, found: Mapping[bytes, bytes | None], now_ms: int, writers: Writers) -> None:
        self._record = record
        self._found = found
        self._label = label_of(record, now_ms)
        self._writers = writers
        self._cells: dict[bytes, list[int]] = {}
        self._new_users: set[bytes] = set()
        self._new_keys: set[bytes] = set()
        self._digest = record.digest
        self._applied = False

    def run(self, batches: Sequence[Located]) -> Counted:
        """Apply all sub-batches in order."""
        answers = [self._apply(located) for located in batches]
        if not self._applied:
            return Counted(self._record, answers)
        label, writers = self._label, self._writers
        # These too: what the op removes depends on them.
        self._digest = xxh3_128_digest(self._digest + _REST.pack(*label, writers.floor))
        record = self._record._replace(
            head_epoch=self._record.epoch,
            opnum=self._record.opnum + 1,
            digest=self._digest,
            writers=writers.count,
            floor=writers.floor,
            label=label.number,
            label_ms=label.began_ms,
            keys_label=label.number if self._new_keys else self._record.keys_label,
        )
        puts = [(key, Counts(*cell).encode()) for key, cell in self._cells.items()]
        puts += [(key, b"") for key in sorted(self._new_users)]
        puts += [(key, b"") for key in sorted(self._new_keys)]
        puts += [(key, row.encode()) for key, row in writers.written.items()]
        before = {key: self._found[key] for key in self._cells}
        return Counted(record, answers, puts, writers.forgotten, outdated_keys(self._record, label), before)

    def _apply(self, located: Located) -> Answer:
        batch, content = located.batch, located.batch.content
        answer = self._writers.judge(located.writer_key, batch, content)
        if answer is not None:
            return answer
        for share in located.shares:
            self._count(share)
        for one in located.keyed:
            self._count_once(one)
        self._writers.counted(located.writer_key, batch, content, located.refusals)
        self._digest = xxh3_128_digest(self._digest + batch.writer + batch.seq.to_bytes(8, "big") + content)
        self._applied = True
        return Answer(node_pb2.OUTCOME_OK, located.refusals)

    def _count(self, share: Share) -> None:
        cell = self._cell(share.cell)
        cell[0] += share.clicks
        cell[1] += share.impressions
        found, new = self._found, self._new_users
        before = len(new)
        new.update([user for user in share.users if found[user] is None])
        cell[2] += len(new) - before

    def _count_once(self, one: Keyed) -> None:
        key, *earlier = where_known(self._record.generation, self._label, one.key)
        if key in self._new_keys or any(self._found[known] is not None for known in (key, *earlier)):
            return  # Counted earlier, under the same key.
        self._new_keys.add(key)
        is_click = one.kind == Kind.CLICK
        self._count(Share(one.cell, int(is_click), int(not is_click), (one.user,)))

    def _cell(self, key: bytes) -> list[int]:
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = list(Counts.decode(self._found[key]))
        return cell
