"""The worker's passes: one op of each slot that is ready, with one look-up, one write and one flush for all of them.

Invariants:
  * what is written in a pass is durable when its steps are told so (``Steps.flushed``);
  * the op log stays below its bytes, all slots together; the longest forgets first.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import structlog

from shard.clones.cloning import drop_changes
from shard.counting.changes import Changes
from shard.counting.keys import HEARTBEAT_KEY, CopyRecord, writer_range
from shard.counting.op import Counted, Located, count, keys_to_read, locate, wants_rows
from shard.counting.op_body import encode_body
from shard.counting.writers import LIMITS, WriterLimits
from shard.engine.copy_writes import changes_of, trimmed
from shard.engine.points import Counts
from shard.engine.slot_copy import Arrived, SlotCopy, fitting
from shard.engine.steps import Steps, Work
from shard.replica.words import Effects, Op
from shard.storage.disk import Disk
from shard.storage.store import Store
from tally.cluster.op_name import OpName
from tally.cluster.slot_map import SlotMap
from tally.hashing import Shape

log = structlog.get_logger()

PASS_EVENTS_MAX: Final = 4_000


class _Building(NamedTuple):
    """One slot's share of a pass."""

    copy: SlotCopy
    arrived: Sequence[Arrived]
    left: Sequence[Arrived]
    located: list[Located]


class Passes:
    """Does one pass after the other. Belongs to one event loop; one pass at a time."""

    def __init__(
        self,
        copies: Sequence[SlotCopy],
        steps: Steps,
        work: Work,
        *,
        store: Store,
        disk: Disk,
        shape: Shape,
        op_log_bytes: int,
        counts: Counts,
        limits: WriterLimits = LIMITS,
    ) -> None:
        """Prepare.

        Args:
            copies: By slot; their records count towards the op log.
            steps: What is to be built and flushed.
            work: Is woken when a pass leaves something for the next.
            store: What is looked up.
            disk: The same, with its threads.
            shape: What is fixed for the cluster.
            op_log_bytes: How much of the last ops is kept, for all slots together.
            counts: Told of each sub-batch just before it is counted.
            limits: How many writers each copy knows.
        """
        self._copies = copies
        self._steps = steps
        self._work = work
        self._store = store
        self._disk = disk
        self._shape = shape
        self._op_log_bytes = op_log_bytes
        self._counts = counts
        self._limits = limits
        self._log_bytes = sum(copy.record.log_bytes for copy in copies if copy.record is not None)
        self._to_drop: list[int] = []  # Generations of clones that are not wanted any more.
        self._heartbeats: list[asyncio.Future[None]] = []
        self.held: SlotMap | None = None  # Says who is wished to join, and so which ops are worth keeping.

    def drop_generation(self, generation: int) -> None:
        """Remove a clone that did not come to its end, in the next pass."""
        self._to_drop.append(generation)
        self._work.wake()

    async def prove_disk(self, within_s: float) -> None:
        """Return once a flush has ended that began within the last ``within_s`` seconds; force one if need be."""
        if self._steps.now() - self._disk.flush_began <= within_s:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._heartbeats.append(done)
        self._work.wake()
        await done

    async def one(self) -> None:
        """Do one pass.

        Raises:
            StoreFailed, StoreCorrupt: What was being written is unknown.
        """
        building = self._take_to_build()
        if building:
            now_ms = _now_ms()
            found = await self._look_up(building, now_ms)
            for slot in building:
                self._built(slot, await self._count(slot, found, now_ms))
        heartbeats, self._heartbeats = self._heartbeats, []
        unflushed, self._steps.unflushed = self._steps.unflushed, []
        groups = [changes for copy, effects in unflushed for changes in self._changes(copy, effects)]
        groups += self._cleaning()
        if heartbeats:
            groups.append(Changes([(HEARTBEAT_KEY, str(_now_ms()).encode())]))
        if groups:
            await self._disk.write_and_flush(groups)
        for copy, effects in unflushed:
            self._steps.flushed(copy, effects)
        for copy, _ in unflushed:
            self._steps.drain(copy)
        for done in heartbeats:
            if not done.done():
                done.set_result(None)
        if self._steps.to_build or self._steps.unflushed or self._heartbeats:
            self._work.wake()

    def _take_to_build(self) -> list[_Building]:
        building: list[_Building] = []
        to_build, events = self._steps.to_build, 0
        while to_build and events < PASS_EVENTS_MAX:
            slot = next(iter(to_build))
            del to_build[slot]
            copy = self._copies[slot]
            assert copy.building is not None
            assert copy.record is not None
            tokens = copy.building.tokens
            fit = fitting(tokens)
            arrived, left = tokens[:fit], tokens[fit:]
            for one in arrived:
                self._counts(one.batch)
            located = [locate(one.batch, slot, copy.record.generation, self._shape) for one in arrived]
            building.append(_Building(copy, arrived, left, located))
            events += sum(len(one.batch.hours) for one in arrived)
        return building

    async def _look_up(self, building: Sequence[_Building], now_ms: int) -> Mapping[bytes, bytes | None]:
        keys = [key for one in building for key in keys_to_read(_record(one.copy), one.located, now_ms)]
        values = await self._disk.work(lambda: self._store.get(keys))
        return dict(zip(keys, values, strict=True))

    async def _count(self, one: _Building, found: Mapping[bytes, bytes | None], now_ms: int) -> Counted:
        record = _record(one.copy)
        all_rows = None
        if wants_rows(record, one.located, found, self._limits):
            span = writer_range(record.generation)
            all_rows = await self._disk.work(lambda: dict(self._store.scan(*span)))
        counted = count(record, one.located, found, now_ms=now_ms, all_rows=all_rows, limits=self._limits)
        if counted.deletes:
            log.info("writers_forgotten", slot=one.copy.slot, writers=len(counted.deletes), floor=counted.record.floor)
        return counted

    def _built(self, one: _Building, counted: Counted) -> None:
        copy = one.copy
        build, copy.building = copy.building, None
        assert build is not None
        copy.under_way, copy.answering = counted, list(one.arrived)
        op = None
        if counted.puts:
            name = OpName(build.epoch, counted.record.opnum, counted.record.digest)
            keeps = copy.replica.term is not None and (copy.replica.term.keeps_ops or self._is_wished(copy.slot))
            op = Op(name, build.previous, encode_body(counted) if keeps else None)
        # The next op. Not in the rules' queue: a reader, who need not wait, would have it built too soon.
        copy.submitted[:0] = one.left
        effects = Effects()
        copy.busy = False
        copy.replica.built(op, self._steps.now(), effects)
        self._steps.carry_out(copy, effects)
        if not copy.busy:
            self._steps.drain(copy)

    def _is_wished(self, slot: int) -> bool:
        return self.held is not None and bool(self.held.joining.get(slot))

    def _changes(self, copy: SlotCopy, effects: Effects) -> list[Changes]:
        before = copy.record.log_bytes if copy.record is not None else 0
        copy.record, groups = changes_of(copy.slot, copy.record, effects.writes, copy.under_way)
        self._log_bytes += copy.record.log_bytes - before
        return groups

    def _cleaning(self) -> list[Changes]:
        """Drop clones that nobody wants, and the oldest ops beyond what is kept."""
        dropped, self._to_drop = self._to_drop, []
        groups = [drop_changes(generation) for generation in dropped]
        while self._log_bytes > self._op_log_bytes:
            copy = max(self._copies, key=lambda copy: copy.record.log_bytes if copy.record is not None else 0)
            before = _record(copy)
            assert before.log_bytes
            copy.record, changes = trimmed(copy.slot, before)
            self._log_bytes += copy.record.log_bytes - before.log_bytes
            groups.append(changes)
        return groups


def _record(copy: SlotCopy) -> CopyRecord:
    assert copy.record is not None
    return copy.record


def _now_ms() -> int:
    return max(0, time.time_ns() // 1_000_000)  # A clock may be wrong, also by decades.
