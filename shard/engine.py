"""The worker of a shard: one pass steps all slots that are ready, with one flush for all of them.

Invariants:
  * all checks and the write of an op happen in the one worker, pass after pass;
  * a sub-batch is answered OK only after a flush that began after its op was written;
  * a read sees committed counts only, and waits for no op.

A thin driver: ``op`` and ``slot_copy`` hold the rules; here are the threads, the queue and the clock.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, TypeVar

import structlog

from protos.tally.internal.v1 import node_pb2
from shard.hour_parts import PartOfHour, Question, all_refused, plan_read, sum_up
from shard.keys import HEARTBEAT_KEY, RECORDS, CopyRecord, record_key, slot_of_record, writer_range
from shard.op import Answer, Located, Op, SubBatch, count, keys_to_read, locate, wants_sweep
from shard.slot_copy import Arrived, Reply, SlotCopy, Standing, outcome_for, standing
from shard.store import Changes, Store
from tally.cluster.slot_map import SlotMap
from tally.errors import StoreCorrupt, StoreFailed
from tally.hashing import Shape

log = structlog.get_logger()

PASS_EVENTS_MAX: Final = 4_000
QUEUE_EVENTS_MAX: Final = 100_000
DISK_MAX_S: Final = 20.0

_T = TypeVar("_T")


class _Work(NamedTuple):
    """One slot's share of a pass."""

    copy: SlotCopy
    arrived: list[Arrived]
    located: list[Located]


class Engine:
    """All copies of one shard. All methods belong to one event loop."""

    def __init__(
        self,
        store: Store,
        *,
        shard: str,
        directory: str,
        shape: Shape,
        on_newer_epoch: Callable[[], None],
        mark_founded: Callable[[], None],
    ) -> None:
        """Take over a store.

        Args:
            store: Open, and of this shard.
            shard: This shard's id.
            directory: 32 hex digits of its data directory.
            shape: What is fixed for the cluster.
            on_newer_epoch: Called when a sender knows a newer map than this shard.
            mark_founded: Notes in the directory, durably, that its founding copies were begun; called in a thread.
        """
        self._store = store
        self._shard = shard
        self._directory = directory
        self._shape = shape
        self._on_newer_epoch = on_newer_epoch
        self._mark_founded = mark_founded
        self._records = {slot_of_record(key): CopyRecord.decode(value) for key, value in store.scan(*RECORDS)}
        self._held: SlotMap | None = None
        self._wanted_map: SlotMap | None = None
        self._copies: dict[int, SlotCopy] = {}  # The slots that are served now.
        self._ready: dict[int, None] = {}  # Slots with something to do, in order.
        self._queued_events = 0
        self._work = asyncio.Event()
        self._failure: StoreFailed | StoreCorrupt | None = None
        self._heartbeats: list[asyncio.Future[None]] = []
        self._flush_began = float("-inf")  # When the last successful flush began, by the loop's clock.
        self._write_threads = ThreadPoolExecutor(1, "write")
        self._read_threads = ThreadPoolExecutor(2, "read")

    # What others ask.

    def take_map(self, held: SlotMap) -> None:
        """Serve by this map from the next pass on."""
        self._wanted_map = held
        self._work.set()

    def submit(self, slot: int, epoch: int, batch: SubBatch, reply: Reply) -> None:
        """Let a sub-batch be counted; ``reply`` is called once, now or when it is durable."""
        copy, outcome = self._standing(slot, epoch)
        if copy is None:
            reply(Answer(outcome), self._epoch(slot))
        elif self._queued_events >= QUEUE_EVENTS_MAX:
            reply(Answer(node_pb2.OUTCOME_NOT_READY), epoch)
        else:
            copy.enqueue(Arrived(batch, reply))
            self._queued_events += len(batch.hours)
            self._ready[slot] = None
            self._work.set()

    async def read(self, questions: Sequence[Question]) -> list[PartOfHour]:
        """Answer questions about hours from committed counts, all of them with one look at the store."""
        plans = [plan_read(question, self._shape, self._standing) for question in questions]
        keys = list({part.key for plan in plans for part in plan.parts})
        try:
            stored = await self._in_thread(self._read_threads, lambda: self._store.get(keys))
            found = dict(zip(keys, stored, strict=True))
            return [sum_up(plan, found, self._standing) for plan in plans]
        except (StoreFailed, StoreCorrupt) as exc:
            self._fail(exc)
            return [all_refused(question) for question in questions]

    def _fail(self, exc: StoreFailed | StoreCorrupt) -> None:
        """Let ``run`` end the process: a disk that can't be read is not to be written either."""
        self._failure = exc
        self._work.set()

    def serving(self) -> dict[int, int]:
        """Return the slots that this shard serves now, and in which epoch."""
        return {slot: copy.record.epoch for slot, copy in self._copies.items()}

    async def prove_disk(self, within_s: float) -> None:
        """Return once a flush has ended that began within the last ``within_s`` seconds; force one if need be."""
        if asyncio.get_running_loop().time() - self._flush_began <= within_s:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._heartbeats.append(done)
        self._work.set()
        await done

    # The worker.

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            StoreFailed, StoreCorrupt: The process must end: what was being written is unknown.
        """
        while True:
            if not (self._ready or self._heartbeats):
                await self._work.wait()
            self._work.clear()
            # Before every pass: under load there is always a next one, and a new map must not wait for the last.
            if self._failure is not None:
                raise self._failure
            if self._wanted_map is not None:
                await self._adopt(self._wanted_map)
            if self._ready or self._heartbeats:
                await self._pass()

    def close(self) -> None:
        """Close the store; ``run`` must have ended."""
        self._write_threads.shutdown()
        self._read_threads.shutdown()
        self._store.close()

    async def _pass(self) -> None:
        work = self._take()
        heartbeats, self._heartbeats = self._heartbeats, []
        now_ms = _now_ms()
        found = await self._look_up(work, now_ms)
        ops = [await self._count(one, found, now_ms) for one in work]
        for one, op in zip(work, ops, strict=True):
            one.copy.begin(op)
        groups = [Changes(op.puts, op.deletes, op.range_deletes) for op in ops if op.puts]
        if heartbeats:
            groups.append(Changes([(HEARTBEAT_KEY, str(now_ms).encode())]))
        if groups:
            await self._write_and_flush(groups)
        for one, op in zip(work, ops, strict=True):
            self._finish(one, op)
        for done in heartbeats:
            if not done.done():
                done.set_result(None)

    def _take(self) -> list[_Work]:
        work: list[_Work] = []
        events = 0
        while self._ready and events < PASS_EVENTS_MAX:
            slot = next(iter(self._ready))
            del self._ready[slot]
            copy = self._copies[slot]
            arrived = copy.take()
            located = [locate(one.batch, slot, copy.record.generation, self._shape) for one in arrived]
            work.append(_Work(copy, arrived, located))
            events += sum(len(one.batch.hours) for one in arrived)
        self._queued_events -= events
        return work

    async def _look_up(self, work: Sequence[_Work], now_ms: int) -> Mapping[bytes, bytes | None]:
        keys = [key for one in work for key in keys_to_read(one.copy.record, one.located, now_ms)]
        if not keys:
            return {}
        values = await self._in_time(lambda: self._store.get(keys))
        return dict(zip(keys, values, strict=True))

    async def _count(self, work: _Work, found: Mapping[bytes, bytes | None], now_ms: int) -> Op:
        record = work.copy.record
        writers = None
        if wants_sweep(record, work.located, found, now_ms):
            span = writer_range(record.generation)
            writers = await self._in_time(lambda: dict(self._store.scan(*span)))
        return count(work.copy.slot, record, work.located, found, now_ms=now_ms, writers=writers)

    def _finish(self, work: _Work, op: Op) -> None:
        copy = work.copy
        copy.commit()
        self._records[copy.slot] = copy.record
        for arrived, answer in zip(work.arrived, op.answers, strict=True):
            if answer.outcome == node_pb2.OUTCOME_CONTENT_DIFFERS:
                log.error("sub_batch_content_differs", slot=copy.slot, seq=arrived.batch.seq)
            elif answer.outcome == node_pb2.OUTCOME_NOT_READY:
                log.error("slot_has_too_many_writers", slot=copy.slot, writers=copy.record.writers)
            arrived.reply(answer, copy.record.epoch)
        if copy.ready and copy.slot in self._copies:
            self._ready[copy.slot] = None

    async def _write_and_flush(self, groups: Sequence[Changes]) -> None:
        def write() -> float:
            self._store.write(groups)
            began = loop.time()
            self._store.flush()
            return began

        loop = asyncio.get_running_loop()
        self._flush_began = await self._in_time(write)

    async def _in_time(self, call: Callable[[], _T]) -> _T:
        """Let the worker's thread do one thing with the disk; a disk that hangs is a failed one."""
        try:
            async with asyncio.timeout(DISK_MAX_S):
                return await self._in_thread(self._write_threads, call)
        except TimeoutError as exc:
            raise StoreFailed(f"the disk took longer than {DISK_MAX_S:.0f} s") from exc

    # The map.

    async def _adopt(self, held: SlotMap) -> None:
        """Begin and end to serve slots as the map says; what it begins is durable before anything is answered."""
        self._held, self._wanted_map = held, None
        begun: list[SlotCopy] = []
        founding = False
        for slot, row in enumerate(held.rows):
            record = self._records.get(slot)
            match standing(row, record, self._shard, self._directory):
                case Standing.FOUNDING:
                    founding = True
                    begun.append(SlotCopy(slot, self._founding_record()))
                    self._records[slot] = begun[-1].record
                case Standing.SERVING if slot in self._copies and record is not None and record.epoch == row.epoch:
                    pass
                case Standing.SERVING:
                    assert record is not None
                    self._end(slot)
                    begun.append(SlotCopy(slot, record._replace(epoch=row.epoch)))
                    self._records[slot] = begun[-1].record
                case reason:
                    self._end(slot)
                    if reason is not Standing.ELSEWHERE:
                        log.error("slot_not_served", slot=slot, epoch=row.epoch, reason=reason.value)
        if begun:
            puts = [(record_key(copy.slot), copy.record.encode()) for copy in begun]
            await self._write_and_flush([Changes(puts)])
            if founding:
                await self._in_thread(self._write_threads, self._mark_founded)
            self._copies.update((copy.slot, copy) for copy in begun)
        log.info("map_adopted", serving=len(self._copies), begun=len(begun))

    def _founding_record(self) -> CopyRecord:
        generation = 1 + max((record.generation for record in self._records.values()), default=0)
        return CopyRecord(generation=generation, incarnation=bytes.fromhex(self._directory), epoch=1)

    def _end(self, slot: int) -> None:
        copy = self._copies.pop(slot, None)
        self._ready.pop(slot, None)
        for arrived in copy.refuse_all() if copy else []:
            self._queued_events -= len(arrived.batch.hours)
            arrived.reply(Answer(node_pb2.OUTCOME_NOT_OWNER), self._epoch(slot))

    def _epoch(self, slot: int) -> int:
        return self._held.rows[slot].epoch if self._held and slot < len(self._held.rows) else 0

    def _standing(self, slot: int, epoch: int) -> tuple[SlotCopy | None, node_pb2.Outcome.ValueType]:
        """Return the copy that serves a message routed by ``epoch``; or None, and what to answer."""
        copy = self._copies.get(slot)
        known = copy.record.epoch if copy else self._epoch(slot)
        if epoch > known:
            self._on_newer_epoch()
            return None, node_pb2.OUTCOME_NOT_READY
        if copy is not None:
            outcome = outcome_for(known, epoch)
            return (copy if outcome == node_pb2.OUTCOME_OK else None), outcome
        mine = self._held is not None and self._held.rows[slot].primary == self._shard
        return None, node_pb2.OUTCOME_NOT_READY if mine else node_pb2.OUTCOME_NOT_OWNER

    @staticmethod
    async def _in_thread(threads: ThreadPoolExecutor, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(threads, call)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
