"""The copies of one shard, driven: what happens goes into their rules, and what these want done is done here.

Invariants:
  * a step that writes is followed by a flush before the same copy takes the next one (``replica.Replica``);
  * one pass of the worker counts the ops of all slots that are ready, with one look-up, one write and one flush;
  * a sub-batch is answered OK only after the flush of its op, and after every required copy has acknowledged it;
  * a read sees committed counts only, and waits for no op.

The rules are in ``replica``, ``op``, ``copy_writes`` and ``hour_parts``; here are the queue, the clock and the order.
"""

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import structlog

from protos.tally.internal.v1 import node_pb2
from shard.cloning import Staged, drop_changes
from shard.copy_writes import changes_of, trimmed
from shard.disk import Disk
from shard.hour_parts import BucketRead, PartOfHour, Question, all_refused, sum_up
from shard.keys import HEARTBEAT_KEY, CopyRecord, record_key, writer_range
from shard.op import Answer, Counted, Located, SubBatch, count, keys_to_read, locate, wants_sweep
from shard.op_body import encode_body
from shard.opening import founds, look_over
from shard.points import Point, Reached, goes_on
from shard.replica import words
from shard.replica.replica import Replica, Role
from shard.replica.words import Effects, Op, OpName, Stored
from shard.slot_copy import Arrived, Reply, SlotCopy, Step, fitting
from shard.store import Changes, Snapshot, Store
from tally.cluster.rows import Change, Request
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.errors import StoreCorrupt, StoreFailed
from tally.hashing import Shape, slot_of

log = structlog.get_logger()

PASS_EVENTS_MAX: Final = 4_000
QUEUE_EVENTS_MAX: Final = 100_000
TICK_S: Final = 0.1
CALL_S: Final = 1.5
AHEAD_MAX_S: Final = 1.0
OP_LOG_BYTES: Final = 2**30

_ASKED: Final = {Change.ADD: Point.ADD_ASKED, Change.PROMOTE: Point.PROMOTE_ASKED}


class Outside(Protocol):
    """How copies reach others. None of these waits; what comes of it comes back to the engine."""

    def call(self, shard: str, slot: int, call: int, message: words.Message) -> None:
        """Ask a copy on another shard."""

    def ask(self, request: Request) -> None:
        """Ask the controller for a change of a row."""

    def reread_map(self) -> None:
        """Read the map soon: there may be a newer one."""


class Granted(NamedTuple):
    """What a joiner gets: the committed state between two ops, held still by ``snapshot``."""

    snapshot: Snapshot
    record: CopyRecord
    head: Op
    epoch: int
    after: OpName | None


Answered = Callable[[words.Answer | Granted | None], None]
"""Takes the answer to another shard's call; None: a clone is not granted."""


class _Called(NamedTuple):
    """Another shard's call."""

    sender: str
    number: int
    message: words.Message


class _Building(NamedTuple):
    """One slot's share of a pass."""

    copy: SlotCopy
    arrived: Sequence[Arrived]
    left: Sequence[Arrived]
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
        outside: Outside,
        mark_founded: Callable[[], None],
        op_log_bytes: int = OP_LOG_BYTES,
        reached: Reached = goes_on,
    ) -> None:
        """Take over a store.

        Args:
            store: Open, and of this shard.
            shard: This shard's id.
            directory: 32 hex digits of its data directory.
            shape: What is fixed for the cluster.
            outside: The other shards and the controller.
            mark_founded: Notes in the directory, durably, that its founding copies were begun; called in a thread.
            op_log_bytes: How much of the last ops is kept, for all slots together.
            reached: Told of each step of a move.
        """
        self._store = store
        self._disk = Disk(store)
        self._shard = shard
        self._directory = directory
        self._shape = shape
        self._outside = outside
        self._mark_founded = mark_founded
        self._op_log_bytes = op_log_bytes
        self._reached = reached
        found = look_over(store)
        self._generations = itertools.count(found.generation + 1)
        calls, names = itertools.count(1), _incarnations()
        self._copies: list[SlotCopy] = []
        for slot in range(shape.slots):
            record, stored = found.copies.get(slot, (None, Stored()))
            self._copies.append(SlotCopy(slot, Replica(shard, stored, calls=calls, incarnations=names), record))
        self._log_bytes = sum(record.log_bytes for record, _ in found.copies.values())
        self._held: SlotMap | None = None
        self._wanted_map: SlotMap | None = None
        self._to_found: list[tuple[int, bytes, asyncio.Future[bool]]] = []
        self._to_build: dict[int, None] = {}  # Slots, in order.
        self._unflushed: list[tuple[SlotCopy, Effects]] = []
        self._to_drop: list[int] = []  # Generations of clones that are not wanted any more.
        self._calls: dict[int, tuple[float, SlotCopy, str]] = {}  # Open calls: until when, of whom, to whom.
        self._clone_calls: dict[int, SlotCopy] = {}
        self._asked: dict[int, Answered] = {}  # Other shards' open calls.
        self._asked_numbers = itertools.count(1)
        self._ahead: list[tuple[float, SlotCopy, _Called]] = []  # Calls by rows that were not read here yet.
        self._queued_events = 0
        self._work = asyncio.Event()
        self._failure: Exception | None = None
        self._heartbeats: list[asyncio.Future[None]] = []
        self._takes_no_ops = False
        self._takes_no_copies = False
        self._acts: dict[type, Callable[[SlotCopy, Any], None]] = {
            words.Send: self._act_send,
            words.Reply: self._act_reply,
            words.Grant: self._act_grant,
            words.Build: self._act_build,
            words.Commit: self._act_commit,
            words.Refuse: self._act_refuse,
            words.Tell: self._act_tell,
            words.Ask: self._act_ask,
            words.RereadMap: self._act_reread_map,
        }

    # What gateways and operators ask.

    def submit(self, slot: int, epoch: int, batch: SubBatch, reply: Reply) -> None:
        """Let a sub-batch be counted; ``reply`` is called once, now or when it is durable."""
        copy = self._copies[slot]
        if self._is_ahead(copy, epoch) or self._takes_no_ops or self._queued_events >= QUEUE_EVENTS_MAX:
            reply(Answer(node_pb2.OUTCOME_NOT_READY), copy.epoch)
            return
        self._queued_events += len(batch.hours)
        copy.submitted.append(Arrived(batch, reply))
        self._drain(copy)

    async def read(self, questions: Sequence[Question]) -> list[PartOfHour]:
        """Answer questions about hours from committed counts, all of them with one look at the store."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        open_reads = sum(len(question.buckets) for question in questions)

        def settled() -> None:
            nonlocal open_reads
            open_reads -= 1
            if open_reads == 0 and not done.done():
                done.set_result(None)

        reads = [self._begin_reads(question, settled) for question in questions]
        if open_reads:
            await done
        keys = list({one.key for some in reads for one in some if one.key})
        try:
            found = dict(zip(keys, await self._disk.get(keys), strict=True)) if keys else {}
            return [sum_up(some, found) for some in reads]
        except (StoreFailed, StoreCorrupt) as exc:
            self._fail(exc)
            return [all_refused(question) for question in questions]

    def _begin_reads(self, question: Question, settled: Callable[[], None]) -> list[BucketRead]:
        reads = []
        for bucket, epoch in zip(question.buckets, question.epochs, strict=True):
            copy = self._copies[slot_of(question.hour, bucket, self._shape)]
            read = BucketRead(question.hour, bucket, copy, settled)
            reads.append(read)
            if self._is_ahead(copy, epoch):
                read.refuse(node_pb2.OUTCOME_NOT_READY)
                continue
            # Readers do not wait for a flush; they change nothing that is written.
            effects = Effects()
            copy.replica.read(read, self._now(), effects)
            assert not (copy.busy and effects.writes)
            self._carry_out(copy, effects)
        return reads

    def _is_ahead(self, copy: SlotCopy, epoch: int) -> bool:
        """Tell whether a sender knows a newer row; who knows an older one is served, if this shard serves."""
        if epoch <= copy.epoch:
            return False
        self._outside.reread_map()
        return True

    async def found_copy(self, slot: int, incarnation: bytes) -> bool:
        """Begin an empty copy, on an operator's word; False if there is another one."""
        founded: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._to_found.append((slot, incarnation, founded))
        self._work.set()
        return await founded

    def hand_over(self, slot: int, shard: str) -> None:
        """Let another member of the set be primary, if this shard serves the slot."""
        copy = self._copies[slot]
        self._step(copy, copy.replica.switch_to, shard)

    def leave(self) -> int:
        """Hand all slots over to other members of their sets; return how many this shard still serves that has some."""
        left = 0
        for copy in self._copies:
            row = copy.replica.row
            if row is None or copy.replica.role is not Role.SERVING:
                continue
            others = sorted(shard for shard in row.in_sync if shard != self._shard)
            if others:
                left += 1
                self._step(copy, copy.replica.switch_to, others[copy.slot % len(others)])
        return left

    def serving(self) -> dict[int, int]:
        """Return the slots that this shard serves now, and in which epoch."""
        return {copy.slot: copy.epoch for copy in self._copies if copy.replica.role is Role.SERVING}

    def status(self, response: node_pb2.StatusResponse) -> None:
        """Tell what is here."""
        for copy in self._copies:
            record, replica = copy.record, copy.replica
            joining = replica.joining_call != 0
            if record is None and not joining:
                continue
            serving = replica.role is Role.SERVING
            if serving:
                response.slots.append(copy.slot)
                response.epochs.append(copy.epoch)
            response.copies.add(
                slot=copy.slot,
                incarnation=bytes.fromhex(replica.stored.incarnation),
                epoch=replica.stored.epoch,
                serving=serving,
                opnum=replica.stored.head.name.opnum,
                joining=joining,
                clone_bytes=copy.clone_bytes,
            )
        response.disk_full = self._takes_no_copies

    # What other shards say.

    def asked(self, sender: str, slot: int, message: words.Message, answered: Answered) -> int:
        """Take another shard's call; return a number to ``forget`` it by."""
        copy, number = self._copies[slot], next(self._asked_numbers)
        self._asked[number] = answered
        epoch = 0 if isinstance(message, words.Clone) else message.epoch
        called = _Called(sender, number, message)
        if self._is_ahead(copy, epoch) and not copy.replica.stored.complete:
            # Perhaps of a copy that the new row founds: an answer now would say that there is none.
            self._ahead.append((self._now() + AHEAD_MAX_S, copy, called))
        else:
            self._step(copy, copy.replica.receive, *called)
        return number

    def forget(self, number: int) -> None:
        """Note that nobody waits for the answer to that call any more."""
        self._asked.pop(number, None)

    def answered(self, shard: str, call: int, answer: words.Answer) -> None:
        """Take the answer to a call of ours, perhaps long after it was given up."""
        found = self._calls.pop(call, None)
        if found is not None:
            self._step(found[1], found[1].replica.answered, shard, call, answer)

    def failed(self, shard: str, call: int, *, refused: bool) -> None:
        """Accept that a call of ours gets no answer; ``refused``: the machine refuses connections."""
        found = self._calls.pop(call, None)
        copy = found[1] if found is not None else self._clone_calls.pop(call, None)
        if copy is not None:
            if copy.replica.joining_call == call:
                copy.clone_bytes = 0
            self._step(copy, partial(copy.replica.failed, refused=refused), shard, call)

    def is_open(self, call: int) -> bool:
        """Tell whether a call of ours still waits for its answer."""
        return call in self._calls

    def all_failed(self, shard: str, *, refused: bool) -> None:
        """Accept that no call to that shard gets an answer any more."""
        for call in [call for call, (_, _, to) in self._calls.items() if to == shard]:
            self.failed(shard, call, refused=refused)

    # Clones that this shard gets.

    def new_generation(self) -> int:
        """Return a generation for a copy that is made anew."""
        return next(self._generations)

    async def take_part(self, call: int, groups: Sequence[Changes], bytes_so_far: int) -> bool:
        """Write a part of a clone; False if nobody wants it any more."""
        copy = self._clone_calls.get(call)
        if copy is None or copy.replica.joining_call != call:
            return False
        copy.clone_bytes = bytes_so_far
        self._step(copy, _progress, copy.replica, call)
        try:
            for changes in groups:
                await self._disk.write_beside(changes)
        except StoreFailed as exc:
            self._fail(exc)
            raise
        return True

    def cloned(self, shard: str, call: int, answer: words.Cloned) -> None:
        """Take a clone, or the ops that were missed, all of which came."""
        copy = self._clone_calls.pop(call, None)
        if copy is None:
            self._drop(answer.content)
            return
        copy.clone_bytes = 0
        self._step(copy, partial(self._take_clone, copy, shard), call, answer)

    def _take_clone(  # noqa: PLR0917 - a step.
        self, copy: SlotCopy, shard: str, call: int, answer: words.Cloned, now: float, effects: Effects
    ) -> None:
        copy.replica.answered(shard, call, answer, now, effects)
        kinds = [type(write) for write in effects.writes]
        if words.Install not in kinds:
            self._drop(answer.content)
        if words.Install in kinds or words.Rename in kinds:
            how = "clone" if words.Install in kinds else "catch_up"
            log.info("copy_joins", slot=copy.slot, source=shard, how=how, ops=len(answer.ops or ()))

    def drop_generation(self, generation: int) -> None:
        """Forget a clone that did not come to its end."""
        self._to_drop.append(generation)
        self._work.set()

    def _drop(self, content: Staged | None) -> None:
        if content is not None:
            self.drop_generation(content.generation)

    async def beside(self, call: Callable[[], Any]) -> Any:
        """Do a part of a clone for another shard, beside the worker."""
        try:
            return await self._disk.beside(call)
        except (StoreFailed, StoreCorrupt) as exc:
            self._fail(exc)
            raise

    # Steps.

    def _step(self, copy: SlotCopy, act: Step, *args: Any) -> None:
        if copy.busy:
            copy.inbox.append((act, args))
            return
        effects = Effects()
        try:
            act(*args, self._now(), effects)
            self._carry_out(copy, effects)
        except Exception as exc:
            # The rules may know of what is not written: nothing of this copy may be answered any more.
            self._fail(exc)
            raise

    def _carry_out(self, copy: SlotCopy, effects: Effects) -> None:
        if effects.writes:
            copy.busy = True
            self._unflushed.append((copy, effects))
            self._work.set()
        if copy.term is not copy.replica.term:
            self._term_ended(copy)
        for act in effects.now:
            self._acts[type(act)](copy, act)
        if not effects.writes:
            self._do_later(copy, effects)

    def _do_later(self, copy: SlotCopy, effects: Effects) -> None:
        for act in effects.later:
            self._acts[type(act)](copy, act)

    def _term_ended(self, copy: SlotCopy) -> None:
        """Leave what was under way in doubt (rule 14)."""
        copy.term = copy.replica.term
        if copy.term is not None:
            self._reached(Point.TERM_BEGUN)
        for arrived in copy.take_answering():
            self._answer(arrived, Answer(node_pb2.OUTCOME_NOT_READY), copy)

    def _drain(self, copy: SlotCopy) -> None:
        """Let happen what waited while the copy was busy; sub-batches all at once, so that they make one op."""
        while not copy.busy:
            if copy.inbox:
                act, args = copy.inbox.popleft()
                self._step(copy, act, *args)
            elif copy.submitted:
                submitted, copy.submitted = copy.submitted, []
                self._step(copy, copy.replica.submit, submitted)
            else:
                return

    def _answer(self, arrived: Arrived, answer: Answer, copy: SlotCopy) -> None:
        self._queued_events -= len(arrived.batch.hours)
        arrived.reply(answer, copy.epoch)

    # Actions.

    def _act_send(self, copy: SlotCopy, act: words.Send) -> None:
        if isinstance(act.message, words.Clone):
            self._clone_calls[act.call] = copy
        else:
            self._calls[act.call] = (self._now() + CALL_S, copy, act.to)
        self._outside.call(act.to, copy.slot, act.call, act.message)

    def _act_reply(self, _copy: SlotCopy, act: words.Reply) -> None:
        answered = self._asked.pop(act.call, None)
        if answered is not None:
            answered(None if isinstance(act.answer, words.Cloned) else act.answer)

    def _act_grant(self, copy: SlotCopy, act: words.Grant) -> None:
        answered = self._asked.pop(act.call, None)
        if answered is not None:
            assert copy.record is not None
            assert copy.record.opnum == act.head.name.opnum
            self._reached(Point.CLONE_GRANTED)
            answered(Granted(self._store.snapshot(), copy.record, act.head, act.epoch, act.after))

    def _act_build(self, copy: SlotCopy, act: words.Build) -> None:
        assert not copy.busy
        assert copy.building is None
        copy.building, copy.busy = act, True
        self._to_build[copy.slot] = None
        self._work.set()

    def _act_commit(self, copy: SlotCopy, _act: words.Commit) -> None:
        counted = copy.under_way
        assert counted is not None
        for arrived, answer in zip(copy.take_answering(), counted.answers, strict=True):
            if answer.outcome == node_pb2.OUTCOME_CONTENT_DIFFERS:
                log.error("sub_batch_content_differs", slot=copy.slot, seq=arrived.batch.seq)
            elif answer.outcome == node_pb2.OUTCOME_NOT_READY:
                log.error("slot_has_too_many_writers", slot=copy.slot, writers=counted.record.writers)
            self._answer(arrived, answer, copy)

    def _act_refuse(self, copy: SlotCopy, act: words.Refuse) -> None:
        outcome: node_pb2.Outcome.ValueType = act.outcome  # type: ignore[assignment]
        for token in act.tokens:
            if isinstance(token, Arrived):
                self._answer(token, Answer(outcome), copy)
            else:
                token.refuse(outcome)

    def _act_tell(self, _copy: SlotCopy, act: words.Tell) -> None:
        for read in act.tokens:
            read.confirm()

    def _act_ask(self, copy: SlotCopy, act: words.Ask) -> None:
        if act.change in _ASKED:
            self._reached(_ASKED[act.change])
        self._outside.ask(Request(act.change, copy.slot, act.epoch, act.shard, act.incarnation))

    def _act_reread_map(self, _copy: SlotCopy, _act: words.RereadMap) -> None:
        self._outside.reread_map()

    # The worker.

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            StoreFailed, StoreCorrupt: The process must end: what was being written is unknown.
        """
        ticking = asyncio.create_task(self._tick_on())
        ticking.add_done_callback(self._ticking_ended)
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                # Before every pass: under load there is always a next one, and a new map must not wait for the last.
                if self._failure is not None:
                    raise self._failure
                if self._wanted_map is not None or self._to_found:
                    await self._adopt()
                await self._pass()
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)

    def _ticking_ended(self, ticking: asyncio.Task[None]) -> None:
        if not ticking.cancelled() and isinstance(failure := ticking.exception(), Exception):
            self._fail(failure)

    def close(self) -> None:
        """Close the store; ``run`` must have ended."""
        self._disk.close()

    def _fail(self, exc: Exception) -> None:
        """Let ``run`` end the process: a disk that can't be read is not to be written either (rule 16)."""
        self._failure = self._failure or exc
        self._work.set()

    async def prove_disk(self, within_s: float) -> None:
        """Return once a flush has ended that began within the last ``within_s`` seconds; force one if need be."""
        if self._now() - self._disk.flush_began <= within_s:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._heartbeats.append(done)
        self._work.set()
        await done

    def room(self, *, takes_copies: bool, takes_ops: bool) -> None:
        """Note what there is room for on the disk."""
        changed = self._takes_no_copies is takes_copies
        self._takes_no_copies, self._takes_no_ops = not takes_copies, not takes_ops
        for copy in self._copies if changed else ():
            if copy.wished and copy.replica.row is not None:
                self._step(copy, _see_row, copy.replica, copy.replica.row, takes_copies)

    async def _pass(self) -> None:
        building = self._take_to_build()
        if building:
            now_ms = _now_ms()
            found = await self._look_up(building, now_ms)
            for one in building:
                self._built(one, await self._count(one, found, now_ms))
        heartbeats, self._heartbeats = self._heartbeats, []
        unflushed, self._unflushed = self._unflushed, []
        groups = [changes for copy, effects in unflushed for changes in self._changes(copy, effects)]
        groups += self._cleaning()
        if heartbeats:
            groups.append(Changes([(HEARTBEAT_KEY, str(_now_ms()).encode())]))
        if groups:
            await self._disk.write_and_flush(groups)
        self._flushed(unflushed)
        for done in heartbeats:
            if not done.done():
                done.set_result(None)
        if self._to_build or self._unflushed or self._heartbeats:
            self._work.set()

    def _flushed(self, unflushed: Sequence[tuple[SlotCopy, Effects]]) -> None:
        for copy, effects in unflushed:
            if any(isinstance(write, words.Install | words.Rename) for write in effects.writes):
                self._reached(Point.COPY_INSTALLED)
            copy.busy = False
            self._do_later(copy, effects)
        for copy, _ in unflushed:
            self._drain(copy)

    def _take_to_build(self) -> list[_Building]:
        building: list[_Building] = []
        events = 0
        while self._to_build and events < PASS_EVENTS_MAX:
            slot = next(iter(self._to_build))
            del self._to_build[slot]
            copy = self._copies[slot]
            assert copy.building is not None
            assert copy.record is not None
            tokens = copy.building.tokens
            fit = fitting(tokens)
            arrived, left = tokens[:fit], tokens[fit:]
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
        writers = None
        if wants_sweep(record, one.located, found, now_ms):
            span = writer_range(record.generation)
            writers = await self._disk.work(lambda: dict(self._store.scan(*span)))
        return count(record, one.located, found, now_ms=now_ms, writers=writers)

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
        copy.replica.built(op, self._now(), effects)
        self._carry_out(copy, effects)
        if not copy.busy:
            self._drain(copy)

    def _is_wished(self, slot: int) -> bool:
        return self._held is not None and bool(self._held.joining.get(slot))

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

    # Time and the map.

    async def _tick_on(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._tick()

    def _tick(self) -> None:
        now = self._now()
        while self._calls:
            call = next(iter(self._calls))
            until, _, shard = self._calls[call]
            if until > now:
                break
            self.failed(shard, call, refused=False)
        self._let_in(now)
        for copy in self._copies:
            if not copy.busy and copy.replica.restless:
                self._step(copy, copy.replica.tick)

    def _let_in(self, now: float) -> None:
        """Take the calls whose rows have been read by now, and those that waited long enough."""
        waiting, self._ahead = self._ahead, []
        for until, copy, called in waiting:
            assert not isinstance(called.message, words.Clone)
            if called.message.epoch > copy.epoch and now < until:
                self._ahead.append((until, copy, called))
            else:
                self._step(copy, copy.replica.receive, *called)

    def take_map(self, held: SlotMap) -> None:
        """Go by this map from the next pass on."""
        self._wanted_map = held
        self._work.set()

    async def _adopt(self) -> None:
        """Show the map to the rules; copies that it founds are durable before."""
        held, self._wanted_map = self._wanted_map, None
        asked, self._to_found = self._to_found, []
        new: dict[int, bytes] = {}
        for slot, row in enumerate(held.rows if held is not None else ()):
            copy = self._copies[slot]
            if not copy.busy and founds(row, copy.record, self._shard, self._directory):
                new[slot] = bytes.fromhex(self._directory)
        by_map = bool(new)
        for slot, incarnation, _ in asked:
            if self._copies[slot].record is None and not self._copies[slot].busy:
                new.setdefault(slot, incarnation)
        if new:
            await self._found(new)
        if by_map:
            await self._disk.work(self._mark_founded)
        for slot, incarnation, founded in asked:
            record = self._copies[slot].record
            if not founded.done():
                founded.set_result(record is not None and record.incarnation == incarnation)
        if held is not None:
            self._show(held)

    async def _found(self, new: Mapping[int, bytes]) -> None:
        records = {slot: CopyRecord(self.new_generation(), incarnation, 0) for slot, incarnation in new.items()}
        for slot in records:
            self._copies[slot].busy = True  # What happens meanwhile waits.
        await self._disk.write_and_flush(
            [Changes([(record_key(slot), record.encode()) for slot, record in records.items()])]
        )
        for slot, record in records.items():
            copy = self._copies[slot]
            copy.record, copy.busy = record, False
            copy.replica.found(record.incarnation.hex())
        for slot in records:
            self._drain(self._copies[slot])

    def _show(self, held: SlotMap) -> None:
        before, self._held = self._held, held
        changed = 0
        for copy, row in zip(self._copies, held.rows, strict=True):
            wished = self._shard in held.joining.get(copy.slot, ())
            if before is None or row != before.rows[copy.slot] or wished is not copy.wished:
                copy.wished = wished
                changed += 1
                self._step(copy, _see_row, copy.replica, row, wished and not self._takes_no_copies)
        self._let_in(self._now())
        log.info("map_adopted", rows_shown=changed, primary_of=held.slots_per_primary()[self._shard])

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _record(copy: SlotCopy) -> CopyRecord:
    assert copy.record is not None
    return copy.record


def _see_row(replica: Replica, row: SlotRow, wished: bool, now: float, effects: Effects) -> None:
    replica.see_row(row, wished=wished, now=now, effects=effects)


def _progress(replica: Replica, call: int, now: float, _: Effects) -> None:
    replica.progress(call, now)


def _incarnations() -> Iterator[str]:
    while True:
        yield secrets.token_hex(16)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
