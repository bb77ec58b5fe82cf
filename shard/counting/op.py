"""One op of a slot: sub-batches and what is stored go in; what to write and what to answer comes out.

Invariants:
  * a sub-batch is counted when its number follows the writer's last one, and never again (PROTOCOL rule 13);
  * an event whose idempotency key is known is counted no more: the day that knows it is the op's, which never falls;
  * a user is added to a cell's users exactly when the user's key is written;
  * counts, users, writers' rows, known keys and head of an op are one atomic write;
  * what is refused uses up its number too, so that no gap comes to be.

No clock, no I/O: the time and all that is stored are arguments.
"""

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
    WriterRow,
    cell_key,
    known_key,
    known_keys_before,
    user_key,
    writer_key,
)
from tally.event import Kind, Refusal, refusal_of
from tally.hashing import Shape, bucket_among, first_slot_of

OP_EVENTS_MAX: Final = 1000
WRITERS_MAX: Final = 4096
WRITER_IDLE_MS: Final = 7 * 24 * 3_600_000
SWEEP_EVERY_MS: Final = 24 * 3_600_000
DAY_MS: Final = 24 * 3_600_000
KEY_DAYS: Final = 3  # A key is known on the day on which it came and on the two days after: 48 hours at least.


class SubBatch(NamedTuple):
    """What one writer sends to one slot at once: columns of equal length, 1 to ``OP_EVENTS_MAX`` events.

    The column of keys is empty if no event has one; an entry of it is what ``key_hash`` gave, or empty.
    """

    writer: bytes
    seq: int
    hours: Sequence[int]
    users: Sequence[bytes]
    kinds: bytes
    keys: Sequence[bytes] = ()

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


class Answer(NamedTuple):
    """What a sub-batch is told: see ``SubBatchAnswer``."""

    outcome: node_pb2.Outcome.ValueType
    refusals: bytes = b""


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
    today = _time_ms(record, now_ms) // DAY_MS
    for located in batches:
        for share in located.shares:
            keys.add(share.cell)
            keys.update(share.users)
        for one in located.keyed:
            keys.add(one.cell)
            keys.add(one.user)
            keys.update(_where_known(record, today, one.key))
    return keys


def _time_ms(record: CopyRecord, now_ms: int) -> int:
    """Return the time of the next op: the clock's, or the last op's if the clock went back."""
    return max(now_ms, record.at_ms)


def _where_known(record: CopyRecord, today: int, key: bytes) -> list[bytes]:
    """Return where an idempotency key stands if it is known: under today or a day before, today first."""
    return [known_key(record.generation, day, key) for day in range(today, max(today - KEY_DAYS, -1), -1)]


def wants_sweep(
    record: CopyRecord, batches: Sequence[Located], found: Mapping[bytes, bytes | None], now_ms: int
) -> bool:
    """Tell whether idle writers are to be looked for: a new writer comes, and there is no room or it is a day ago."""
    if record.writers < WRITERS_MAX and now_ms - record.swept_ms < SWEEP_EVERY_MS:
        return False
    return any(found[located.writer_key] is None for located in batches)


def count(
    record: CopyRecord,
    batches: Sequence[Located],
    found: Mapping[bytes, bytes | None],
    *,
    now_ms: int,
    writers: Mapping[bytes, bytes] | None = None,
) -> Counted:
    """Build the op that applies ``batches`` to a copy.

    Args:
        record: The copy's record as it is stored.
        batches: In the order in which they came.
        found: What is stored under each of ``keys_to_read``; None where nothing is.
        now_ms: This shard's clock, the same that ``keys_to_read`` was given.
        writers: All writers' rows, if ``wants_sweep``.
    """
    return _Counting(record, found, _time_ms(record, now_ms)).run(batches, writers)


class _Counting:
    """An op while it is built."""

    def __init__(self, record: CopyRecord, found: Mapping[bytes, bytes | None], at_ms: int) -> None:
        self._record = record
        self._found = found
        self._at_ms = at_ms
        self._today = at_ms // DAY_MS
        self._cells: dict[bytes, list[int]] = {}
        self._new_users: set[bytes] = set()
        self._new_keys: set[bytes] = set()
        self._writers: dict[bytes, WriterRow] = {}
        self._writer_count = record.writers
        self._digest = record.digest
        self._applied = False

    def run(self, batches: Sequence[Located], all_writers: Mapping[bytes, bytes] | None) -> Counted:
        """Apply all sub-batches in order."""
        idle: list[bytes] = []
        if all_writers:
            idle = self._idle(all_writers, {located.writer_key for located in batches})
            self._writer_count -= len(idle)
        answers = [self._apply(located) for located in batches]
        if not self._applied:
            return Counted(self._record, answers)
        # The time too: what the op removes depends on it.
        self._digest = xxh3_128_digest(self._digest + self._at_ms.to_bytes(8, "big"))
        record = self._record._replace(
            head_epoch=self._record.epoch,
            opnum=self._record.opnum + 1,
            digest=self._digest,
            writers=self._writer_count,
            at_ms=self._at_ms,
            swept_ms=self._record.swept_ms if all_writers is None else self._at_ms,
            keys_day=self._today if self._new_keys else self._record.keys_day,
        )
        puts = [(key, Counts(*cell).encode()) for key, cell in self._cells.items()]
        puts += [(key, b"") for key in sorted(self._new_users)]
        puts += [(key, b"") for key in sorted(self._new_keys)]
        puts += [(key, row.encode()) for key, row in self._writers.items()]
        before = {key: self._found[key] for key in self._cells}
        return Counted(record, answers, puts, idle, self._outdated_keys(), before)

    def _idle(self, all_writers: Mapping[bytes, bytes], needed: set[bytes]) -> list[bytes]:
        limit = self._at_ms - WRITER_IDLE_MS
        return [
            key for key, value in all_writers.items() if key not in needed and WriterRow.decode(value).used_ms < limit
        ]

    def _outdated_keys(self) -> list[tuple[bytes, bytes]]:
        """Return the range of the keys that are known no longer, if this op begins a day and there may be some."""
        last_day = self._record.at_ms // DAY_MS
        # Nothing stands from before the days that the last op knew. Who uses no keys gets no ranges to look through.
        if not self._record.at_ms or self._today == last_day or self._record.keys_day <= last_day - KEY_DAYS:
            return []
        return [known_keys_before(self._record.generation, max(self._today - KEY_DAYS + 1, 0))]

    def _apply(self, located: Located) -> Answer:
        batch, content = located.batch, located.batch.content
        row = self._writer(located.writer_key)
        last = row.seq if row else 0
        if row is not None and batch.seq == last:
            if row.content != content:
                return Answer(node_pb2.OUTCOME_CONTENT_DIFFERS)
            return Answer(node_pb2.OUTCOME_OK, row.refusals)
        if batch.seq <= last:
            return Answer(node_pb2.OUTCOME_OK)  # Settled long ago; this is a late repetition that nobody waits for.
        if batch.seq != last + 1:
            return Answer(node_pb2.OUTCOME_OUT_OF_ORDER)
        if row is None:
            if self._writer_count >= WRITERS_MAX:
                return Answer(node_pb2.OUTCOME_NOT_READY)
            self._writer_count += 1
        for share in located.shares:
            self._count(share)
        for one in located.keyed:
            self._count_once(one)
        refusals = located.refusals
        self._writers[located.writer_key] = WriterRow(batch.seq, self._at_ms, content, refusals)
        self._digest = xxh3_128_digest(self._digest + batch.writer + batch.seq.to_bytes(8, "big") + content)
        self._applied = True
        return Answer(node_pb2.OUTCOME_OK, refusals)

    def _writer(self, key: bytes) -> WriterRow | None:
        if key in self._writers:
            return self._writers[key]
        stored = self._found[key]
        return WriterRow.decode(stored) if stored is not None else None

    def _count(self, share: Share) -> None:
        cell = self._cell(share.cell)
        cell[0] += share.clicks
        cell[1] += share.impressions
        found, new = self._found, self._new_users
        before = len(new)
        new.update([user for user in share.users if found[user] is None])
        cell[2] += len(new) - before

    def _count_once(self, one: Keyed) -> None:
        today, *earlier = _where_known(self._record, self._today, one.key)
        if today in self._new_keys or any(self._found[key] is not None for key in (today, *earlier)):
            return  # Counted earlier, under the same key.
        self._new_keys.add(today)
        is_click = one.kind == Kind.CLICK
        self._count(Share(one.cell, int(is_click), int(not is_click), (one.user,)))

    def _cell(self, key: bytes) -> list[int]:
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = list(Counts.decode(self._found[key]))
        return cell
