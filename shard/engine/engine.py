"""The copies of one shard, driven: what gateways and operators ask, the map, and the worker that all of it waits for.

    steps    a copy's rules, asked one thing after the other
    calls    what copies ask copies on other shards, and are asked
    passes   look up, count, write and flush, for all slots at once
    reads    confirm and look up what readers ask for

Invariants:
  * a sub-batch is answered OK only after the flush of its op, and after every required copy has acknowledged it;
  * a read sees committed counts only, and waits for no op.

The rules are in ``replica``, ``op``, ``copy_writes`` and ``hour_parts``; here are the queue, the clock and the order.
"""

import asyncio
import itertools
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import structlog

from protos.tally.internal.v1 import node_pb2
from shard.counting.changes import Changes
from shard.counting.keys import CopyRecord, record_key
from shard.counting.op import SubBatch
from shard.counting.writers import LIMITS, Answer, WriterLimits
from shard.engine.calls import Calls
from shard.engine.passes import Passes
from shard.engine.points import Counts, Reached, counts_all, goes_on
from shard.engine.reads import Reads
from shard.engine.redundancy import Redundancy
from shard.engine.refusals import Reason
from shard.engine.slot_copy import Arrived, Reply, SlotCopy
from shard.engine.steps import Outside, Steps, Work
from shard.replica.replica import Replica, Role
from shard.replica.words import Effects, Stored
from shard.storage.disk import Disk
from shard.storage.opening import founds, look_over
from shard.storage.store import Store
from tally.cluster.controller.node_words import name_to_wire
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.errors import StoreCorrupt, StoreFailed
from tally.hashing import Shape
from tally.tasks import awaited, until_cancelled

log = structlog.get_logger()

QUEUE_EVENTS_MAX: Final = 100_000
TICK_S: Final = 0.1
OP_LOG_BYTES: Final = 2**30


class Engine:
    """All copies of one shard. All methods belong to one event loop.

    Attributes:
        calls: What other shards say, and what becomes of what they are asked.
        reads: What readers ask.
        redundancy: How safe the slots are; whoever reads the map shows it to this, too.
    """

    def __init__(
        self,
        store: Store,
        *,
        shard: str,
        directory: str,
        shape: Shape,
        outside: Outside,
        process: Callable[[], str],
        mark_founded: Callable[[], None],
        founded: bool = False,
        op_log_bytes: int = OP_LOG_BYTES,
        reached: Reached = goes_on,
        counts: Counts = counts_all,
        writers: WriterLimits = LIMITS,
    ) -> None:
        """Take over a store.

        Args:
            store: Open, and of this shard.
            shard: This shard's id.
            directory: 32 hex digits of its data directory.
            shape: What is fixed for the cluster.
            outside: The other shards and the controller.
            process: Returns what this process writes into its alive key.
            mark_founded: Notes in the directory, durably, that its founding copies were begun; called in a thread.
            founded: That was noted before: no row begins copies here any more.
            op_log_bytes: How much of the last ops is kept, for all slots together.
            reached: Told of each step of a move.
            counts: Told of each sub-batch just before it is counted.
            writers: How many writers each copy knows.
        """
        self._disk = Disk(store)
        self._shard = shard
        self._directory = directory
        self._shape = shape
        self._mark_founded = mark_founded
        self._founded = founded
        found = look_over(store)
        self._generations = itertools.count(found.generation + 1)
        names, calls = _incarnations(), itertools.count(1)
        self._copies: list[SlotCopy] = []
        for slot in range(shape.slots):
            record, stored = found.copies.get(slot, (None, Stored()))
            self._copies.append(SlotCopy(slot, Replica(shard, stored, calls=calls, incarnations=names), record))
        self._work = work = Work()
        self.redundancy: Final = Redundancy(shard)
        self._steps = steps = Steps(outside, work, self.redundancy, reached, process)
        self._passes = Passes(
            self._copies,
            steps,
            work,
            store=store,
            disk=self._disk,
            shape=shape,
            op_log_bytes=op_log_bytes,
            counts=counts,
            limits=writers,
        )
        self.calls: Final = Calls(
            self._copies,
            steps,
            work,
            store=store,
            disk=self._disk,
            outside=outside,
            generations=lambda: next(self._generations),
            drop=self._passes.drop_generation,
            reached=reached,
            shape=shape,
        )
        self.reads: Final = Reads(self._copies, steps, work, disk=self._disk, shape=shape)
        self._wanted_map: SlotMap | None = None
        self._to_found: list[tuple[int, bytes, asyncio.Future[bool]]] = []
        self._takes_no_ops = False
        self._takes_no_copies = False

    # What gateways ask.

    def submit(self, slot: int, epoch: int, batch: SubBatch, reply: Reply) -> None:
        """Let a sub-batch be counted; ``reply`` is called once, now or when it is durable."""
        copy = self._copies[slot]
        if self._steps.is_ahead(copy, epoch):
            reply(Answer(node_pb2.OUTCOME_NOT_READY), copy.epoch, 0)
        elif (reason := self._no_room(copy)) is not None:
            self.refused(slot, reason)
            reply(Answer(node_pb2.OUTCOME_NOT_READY, reason=reason), copy.epoch, 0)
        else:
            self._steps.submit(copy, Arrived(batch, reply))

    def _no_room(self, copy: SlotCopy) -> Reason | None:
        """Return why nothing more is taken for a slot; None where something is, or another shard is primary."""
        row = copy.replica.row
        if row is None or row.primary != self._shard:
            return None  # The rules say so: the sender's map is old.
        if self._takes_no_ops:
            return Reason.DISK_FULL
        return Reason.QUEUE_FULL if self._steps.queued_events >= QUEUE_EVENTS_MAX else None

    def tell_opnum(self, slot: int, epoch: int, reply: Reply) -> None:
        """Tell a writer how many ops of a slot are committed, at once.

        No other copy is asked whether this one is still primary: too low a number shuts out nobody but who has it, and
        is no danger.
        """
        copy = self._copies[slot]
        row = copy.replica.row
        if self._steps.is_ahead(copy, epoch):
            reply(Answer(node_pb2.OUTCOME_NOT_READY), copy.epoch, 0)
        elif copy.replica.role is Role.SERVING:
            reply(Answer(node_pb2.OUTCOME_OK), copy.epoch, copy.committed_opnum)
        elif row is not None and row.primary == self._shard:
            reply(Answer(node_pb2.OUTCOME_NOT_READY), copy.epoch, 0)
        else:
            reply(Answer(node_pb2.OUTCOME_NOT_OWNER), copy.epoch, 0)

    # What operators and the controller ask.

    async def found_copy(self, slot: int, incarnation: bytes) -> bool:
        """Begin an empty copy, on an operator's word; False if there is another one."""
        founded: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._to_found.append((slot, incarnation, founded))
        self._work.wake()
        return await founded

    def hand_over(self, slot: int, shard: str) -> None:
        """Let another member of the set be primary, if this shard serves the slot."""
        copy = self._copies[slot]
        self._steps.take(copy, copy.replica.switch_to, shard)

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
                self._steps.take(copy, copy.replica.switch_to, others[copy.slot % len(others)])
        return left

    def serving(self) -> dict[int, int]:
        """Return the slots that this shard serves now, and in which epoch."""
        return {copy.slot: copy.epoch for copy in self._copies if copy.replica.role is Role.SERVING}

    def refused(self, slot: int, reason: Reason) -> None:
        """Note that something was refused in a slot, if this shard serves it."""
        if self._copies[slot].replica.role is Role.SERVING:
            self._steps.refusals.note(slot, reason, self._steps.now())

    def refusing(self) -> dict[int, Reason]:
        """Return the slots served here in which something is or was just refused, and why."""
        lately = self._steps.refusals.recent(self._steps.now())
        found: dict[int, Reason] = {}
        for copy in self._copies:
            row = copy.replica.row
            if row is None or copy.replica.role is not Role.SERVING:
                continue
            if self._takes_no_ops:
                found[copy.slot] = Reason.DISK_FULL
            elif len(row.in_sync) < row.min_copies:
                found[copy.slot] = Reason.FEW_COPIES
            elif copy.slot in lately:
                found[copy.slot] = lately[copy.slot]
        return found

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
                head=name_to_wire(replica.stored.head.name),
                joining=joining,
                clone_bytes=copy.clone_bytes,
            )
        refusing = self.refusing()
        response.refusing_slots.extend(refusing)
        response.refusing_reasons.extend(refusing.values())
        response.disk_full, response.takes_no_events = self._takes_no_copies, self._takes_no_ops
        figures = self.redundancy.figures(self._steps.now())
        response.redundancy.single_copy_slot_seconds = figures.single_copy_s
        response.redundancy.copies_missing = figures.copies_missing
        response.redundancy.clones = figures.clones
        response.redundancy.catch_ups = figures.catch_ups
        response.redundancy.terms_refused = figures.terms_refused

    @property
    def queued_events(self) -> int:
        """How many events wait for their op, or are in one that is not committed."""
        return self._steps.queued_events

    async def beside(self, call: Callable[[], Any]) -> Any:
        """Do a part of a clone for another shard, beside the worker."""
        try:
            return await self._disk.beside(call)
        except (StoreFailed, StoreCorrupt) as exc:
            self._work.fail(exc)
            raise

    async def prove_disk(self, within_s: float) -> None:
        """Return once a flush has ended that began within the last ``within_s`` seconds; force one if need be."""
        await self._passes.prove_disk(within_s)

    def room(self, *, takes_copies: bool, takes_ops: bool) -> None:
        """Note what there is room for on the disk."""
        changed = self._takes_no_copies is takes_copies
        self._takes_no_copies, self._takes_no_ops = not takes_copies, not takes_ops
        for copy in self._copies if changed else ():
            if copy.wished and copy.replica.row is not None:
                self._steps.take(copy, _see_row, copy.replica, copy.replica.row, takes_copies)

    # The worker.

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            StoreFailed, StoreCorrupt: The process must end: what was being written is unknown.
        """
        ticking = awaited(until_cancelled(self._tick_on), name="ticks")
        ticking.add_done_callback(self._ticking_ended)
        try:
            while True:
                await self._work.there.wait()
                self._work.there.clear()
                # Before every pass: under load there is always a next one, and a new map must not wait for the last.
                if self._work.failure is not None:
                    raise self._work.failure
                if self._wanted_map is not None or self._to_found:
                    await self._adopt()
                await self._passes.one()
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)

    def _ticking_ended(self, ticking: asyncio.Task[None]) -> None:
        if not ticking.cancelled() and isinstance(failure := ticking.exception(), Exception):
            self._work.fail(failure)

    def close(self) -> None:
        """Close the store; ``run`` must have ended."""
        self.calls.log_joins(float("inf"))
        self._disk.close()

    # Time and the map.

    async def _tick_on(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            await asyncio.sleep(0)  # What came meanwhile is heard first; a look that is late judges nobody at all.
            self.calls.give_up_old()
            self.calls.let_in()
            self.calls.log_joins(self._steps.now())
            for copy in self._copies:
                if not copy.busy and copy.replica.restless:
                    self._steps.take(copy, copy.replica.tick)

    def take_map(self, held: SlotMap) -> None:
        """Go by this map from the next pass on."""
        self._wanted_map = held
        self._work.wake()

    async def _adopt(self) -> None:
        """Show the map to the rules; copies that it founds are durable before."""
        held, self._wanted_map = self._wanted_map, None
        asked, self._to_found = self._to_found, []
        new = self._founded_by(held) if held is not None else {}
        by_map = bool(new)
        for slot, incarnation, _ in asked:
            if self._copies[slot].record is None and not self._copies[slot].busy:
                new.setdefault(slot, incarnation)
        if new:
            await self._found(new)
        if by_map:
            self._founded = True
            await self._disk.work(self._mark_founded)
        for slot, incarnation, founded in asked:
            record = self._copies[slot].record
            if not founded.done():
                founded.set_result(record is not None and record.incarnation == incarnation)
        if held is not None:
            self._show(held)

    def _founded_by(self, held: SlotMap) -> dict[int, bytes]:
        """Return slot -> incarnation of the empty copies that this map begins here: all at once, and only once."""
        slots = [
            slot
            for slot, (row, copy) in enumerate(zip(held.rows, self._copies, strict=True))
            if not copy.busy and founds(row, copy.record, self._shard, self._directory)
        ]
        if slots and (self._founded or any(copy.record is not None for copy in self._copies)):
            # A first map that somebody made again: an empty copy would pass for one that has the data.
            log.error("not_founded_again", slots=len(slots), advice="tally recover")
            return {}
        return dict.fromkeys(slots, bytes.fromhex(self._directory))

    async def _found(self, new: Mapping[int, bytes]) -> None:
        records = {slot: CopyRecord(next(self._generations), incarnation, 0) for slot, incarnation in new.items()}
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
            self._steps.drain(self._copies[slot])

    def _show(self, held: SlotMap) -> None:
        before, self._passes.held = self._passes.held, held
        changed = 0
        for copy, row in zip(self._copies, held.rows, strict=True):
            wished = self._shard in held.joining.get(copy.slot, ())
            if before is None or row != before.rows[copy.slot] or wished is not copy.wished:
                copy.wished = wished
                changed += 1
                self._steps.take(copy, _see_row, copy.replica, row, wished and not self._takes_no_copies)
        self.calls.let_in()
        log.info("map_adopted", rows_shown=changed, primary_of=held.slots_per_primary()[self._shard])


def _see_row(replica: Replica, row: SlotRow, wished: bool, now: float, effects: Effects) -> None:
    replica.see_row(row, wished=wished, now=now, effects=effects)


def _incarnations() -> Iterator[str]:
    while True:
        yield secrets.token_hex(16)
