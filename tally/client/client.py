"""The routed client: counts events and reads hours on whichever shards own them. Gateways and shards both use it.

A thin driver: ``outbox``, ``coalescer`` and ``hour_read`` hold the rules; here are futures, the timer and links.
"""

import asyncio
import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

import structlog

from protos.tally.internal.v1 import node_pb2
from tally.client import readiness
from tally.client.coalescer import Coalescer
from tally.client.counts import HourCounts
from tally.client.hour_read import Ask, HourRead
from tally.client.link import ShardLink
from tally.client.outbox import SlotOutbox, SubBatch
from tally.client.receipt import Receipt
from tally.cluster.state import ClusterState
from tally.errors import InDoubt, Overloaded, TallyError, Unavailable
from tally.event import Event
from tally.hashing import bucket_of, slot_of

log = structlog.get_logger()

TICK_S: Final = 0.05
MESSAGE_EVENTS_MAX: Final = 8_000  # Of 256 bytes of name each at most: far below the limit of a message.
MESSAGE_READS_MAX: Final = 1_000


class MapSource(Protocol):
    """Where the map comes from: ``ClusterReader``."""

    @property
    def state(self) -> ClusterState:
        """What is known of the cluster now."""

    def refresh_soon(self) -> None:
        """Read etcd at once instead of at the next poll."""

    def on_change(self, callback: Callable[[ClusterState], None]) -> None:
        """Call ``callback`` whenever ``state`` has changed."""


def fresh_writers() -> Iterator[bytes]:
    """Give writer ids that nobody else has: 128 random bits each."""
    while True:
        yield os.urandom(16)


class RoutedClient:
    """Counts events, reads hours. All methods belong to one event loop."""

    def __init__(
        self,
        source: MapSource,
        *,
        queue_events: int = 10_000,
        slot_queue_events: int = 5_000,
        reads_waiting: int = 10_000,
        deadline_s: float = 8.0,
    ) -> None:
        """Prepare a client; ``start`` begins its work.

        Args:
            source: The map, kept up to date by its owner.
            queue_events: How many events may wait or be in doubt in all.
            slot_queue_events: How many may wait for one slot, so that one slot that is away can't fill the whole queue.
            reads_waiting: How many readers may wait.
            deadline_s: How long a caller waits at most.
        """
        self._source = source
        self._queue_events = queue_events
        self._slot_queue_events = slot_queue_events
        self._deadline_s = deadline_s
        self._events = 0
        self._writers = fresh_writers()
        self._ids = itertools.count(1)
        self._outboxes: dict[int, SlotOutbox[Receipt]] = {}
        self._busy: set[int] = set()  # Slots whose outbox is not idle.
        self._ready: dict[str, dict[int, None]] = {}  # Shard -> slots with something to send, in order.
        self._slot_of_batch: dict[int, int] = {}
        self._sent_to: dict[int, str] = {}  # Slot -> shard that has its doubtful sub-batch.
        self._readers: Coalescer[asyncio.Future[HourCounts]] = Coalescer(readers_max=reads_waiting)
        self._reads: dict[int, HourRead] = {}
        self._asks: dict[str, list[Ask]] = {}  # Shard -> questions to send.
        self._links: dict[str, tuple[ShardLink, asyncio.Task[None]]] = {}
        self._timer: asyncio.Task[None] | None = None
        source.on_change(self._map_changed)

    async def start(self) -> None:
        """Begin: from now on deadlines pass and shards are called."""
        self._loop = asyncio.get_running_loop()
        self._timer = asyncio.create_task(self._tick_forever(), name="client timer")

    async def close(self) -> None:
        """End all links. Who still waits gets an error."""
        tasks = [task for _, task in self._links.values()] + ([self._timer] if self._timer else [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._links.clear()
        for outbox in self._outboxes.values():
            self._expire_outbox(outbox, float("inf"))
        for future in self._readers.expire(float("inf")).receipts:
            _fail(future, Unavailable("this process is shutting down"))

    def record(self, event: Event) -> "asyncio.Future[None]":
        """Count one valid event.

        Returns:
            A future that is done when the event is durable and counted. It fails with ``Unavailable`` (not counted),
            ``InDoubt`` (perhaps counted, now or later) or ``InvalidEvent`` (refused by the shard).

        Raises:
            Overloaded: A queue is full; not counted.
        """
        return self.record_all((event,))

    def record_all(self, events: Sequence[Event], timeout_s: float | None = None) -> "asyncio.Future[None]":
        """Count many valid events; either all are taken in, or none.

        Returns and raises what ``record`` does; after a failed future some of the events may be counted.
        """
        if self._events + len(events) > self._queue_events:
            raise Overloaded("the queue of events", self._queue_events)
        shape = self._source.state.config.shape
        slots = [slot_of(event.hour, bucket_of(event.hour, event.user, shape), shape) for event in events]
        if len(events) > 1:
            self._check_room(slots)
        receipt = Receipt(len(events), self._loop)
        deadline = self._loop.time() + min(self._deadline_s, timeout_s or self._deadline_s)
        for slot, event in zip(slots, events, strict=True):
            outbox = self._outbox(slot)
            outbox.add(event, deadline, receipt)
            self._events += 1
            if outbox.in_doubt is None:
                self._make_ready(slot)
        return receipt.future

    def _check_room(self, slots: Sequence[int]) -> None:
        wanted: dict[int, int] = {}
        for slot in slots:
            wanted[slot] = wanted.get(slot, 0) + 1
        for slot, count in wanted.items():
            if self._outbox(slot).room() < count:
                raise Overloaded(f"the queue of slot {slot}", self._slot_queue_events)

    def read_hour(self, hour: int, timeout_s: float | None = None) -> "asyncio.Future[HourCounts]":
        """Read the exact numbers of an hour.

        Returns:
            A future with the numbers. It fails with ``Unavailable`` if some part can't be had in time.

        Raises:
            Overloaded: Too many readers wait.
        """
        future: asyncio.Future[HourCounts] = self._loop.create_future()
        deadline = self._loop.time() + min(self._deadline_s, timeout_s or self._deadline_s)
        if self._readers.join(hour, deadline, future):
            self._begin_read(hour)
        return future

    async def not_serving(self) -> list[str]:
        """Return why some slot can't be written or read now; empty when every slot has a serving primary."""
        stubs = {shard: link.stub for shard, link in self._every_link().items()}
        return await readiness.not_serving(self._source.state, stubs)

    # Events on their way out.

    def _outbox(self, slot: int) -> SlotOutbox[Receipt]:
        outbox = self._outboxes.get(slot)
        if outbox is None:
            outbox = SlotOutbox(slot, events_max=self._slot_queue_events, writers=self._writers, ids=self._ids)
            self._outboxes[slot] = outbox
        return outbox

    def _make_ready(self, slot: int) -> None:
        self._busy.add(slot)
        held = self._source.state.map
        link = self._link(held.rows[slot].primary) if held else None
        if link is not None:  # Without a map or an address the timer comes back to it.
            self._ready.setdefault(link.shard, {})[slot] = None
            link.wake()

    def _fill(self, shard: str) -> node_pb2.ExchangeRequest | None:
        """Take what is ready for a shard, in one message."""
        slots, asks, held = self._ready.get(shard), self._asks.get(shard), self._source.state.map
        if held is None or not (slots or asks):
            return None
        request = node_pb2.ExchangeRequest()
        now, events = self._loop.time(), 0
        while slots and events < MESSAGE_EVENTS_MAX:
            slot = next(iter(slots))
            del slots[slot]
            self._expire_outbox(self._outboxes[slot], now)
            batch = self._outboxes[slot].next_to_send(now)
            if batch is not None:
                events += len(batch.entries)
                self._slot_of_batch[batch.id] = slot
                self._sent_to[slot] = shard
                request.sub_batches.append(_to_wire(batch, held.rows[slot].epoch))
        if asks:
            for ask in asks[:MESSAGE_READS_MAX]:
                request.reads.add(id=ask.id, hour=ask.hour, buckets=ask.buckets, epochs=ask.epochs)
            del asks[:MESSAGE_READS_MAX]
        return request if request.sub_batches or request.reads else None

    def _on_response(self, response: node_pb2.ExchangeResponse) -> None:
        now = self._loop.time()
        for answer in response.sub_batches:
            self._on_sub_batch_answer(answer, now)
        for hour_answer in response.reads:
            self._on_hour_answer(hour_answer, now)

    def _on_sub_batch_answer(self, answer: node_pb2.SubBatchAnswer, now: float) -> None:
        slot = self._slot_of_batch.get(answer.id)
        if slot is None:
            return  # A late answer to a repeated attempt.
        outbox = self._outboxes[slot]
        match answer.outcome:
            case node_pb2.OUTCOME_OK:
                batch = outbox.settle(answer.id, now)
                assert batch is not None
                refusals = answer.refusals or bytes(len(batch.entries))
                for entry, refusal in zip(batch.entries, refusals, strict=True):
                    entry.receipt.settle(refusal)
                self._settled(batch)
            case node_pb2.OUTCOME_CONTENT_DIFFERS | node_pb2.OUTCOME_MALFORMED:
                self._give_up(outbox, answer, now)
            case node_pb2.OUTCOME_OUT_OF_ORDER if answer.epoch == self._epoch_of(slot):
                self._give_up(outbox, answer, now)  # No newer map explains it: data was given up.
            case node_pb2.OUTCOME_NOT_OWNER | node_pb2.OUTCOME_OUT_OF_ORDER:
                outbox.hold_off(answer.id, now, random.random())  # noqa: S311 - jitter is no secret.
                self._source.refresh_soon()
            case _:
                outbox.hold_off(answer.id, now, random.random())  # noqa: S311

    def _give_up(self, outbox: SlotOutbox[Receipt], answer: node_pb2.SubBatchAnswer, now: float) -> None:
        batch = outbox.give_up(answer.id, now)
        assert batch is not None
        outcome = node_pb2.Outcome.Name(answer.outcome)
        log.error("sub_batch_lost", slot=batch.slot, seq=batch.seq, events=len(batch.entries), outcome=outcome)
        for entry in batch.entries:
            entry.receipt.fail(InDoubt())
        self._settled(batch)

    def _settled(self, batch: SubBatch[Receipt]) -> None:
        del self._slot_of_batch[batch.id]
        self._sent_to.pop(batch.slot, None)
        self._events -= len(batch.entries)
        if self._outboxes[batch.slot].idle:
            self._busy.discard(batch.slot)
        else:
            self._make_ready(batch.slot)

    def _expire_outbox(self, outbox: SlotOutbox[Receipt], now: float) -> None:
        dropped, overdue = outbox.expire(now)
        self._events -= len(dropped)
        for receipt in dropped:
            receipt.fail(Unavailable(f"slot {outbox.slot} could not be written in time"))
        for receipt in overdue:
            receipt.fail(InDoubt())

    # Reads.

    def _begin_read(self, hour: int) -> None:
        read = HourRead(hour, self._source.state.config.shape, self._ids)
        self._reads[hour] = read
        self._ask(read, self._loop.time())

    def _ask(self, read: HourRead, now: float) -> None:
        held = self._source.state.map
        if held is None:
            return
        for ask in read.next_asks(held.rows, now):
            link = self._link(ask.shard)
            if link is None:
                read.fail(ask.id, now, random.random())  # noqa: S311 - jitter is no secret.
            else:
                self._asks.setdefault(ask.shard, []).append(ask)
                link.wake()

    def _on_hour_answer(self, answer: node_pb2.HourAnswer, now: float) -> None:
        read = self._reads.get(answer.hour)
        if read is None:
            return  # Nobody waits for it any more.
        sums = HourCounts(answer.users, answer.clicks, answer.impressions)
        read.answer(answer.id, sums, answer.refused_buckets, now, random.random())  # noqa: S311
        if node_pb2.OUTCOME_NOT_OWNER in answer.refused_outcomes:
            self._source.refresh_soon()
        if read.counts is not None:
            self._finish_read(read.hour, read.counts)

    def _finish_read(self, hour: int, counts: HourCounts) -> None:
        del self._reads[hour]
        answered, begin_next = self._readers.finish(hour)
        for future in answered:
            if not future.done():
                future.set_result(counts)
        if begin_next:
            self._begin_read(hour)

    # Time, map and links.

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._tick(self._loop.time())

    def _tick(self, now: float) -> None:
        for slot in list(self._busy):
            outbox = self._outboxes[slot]
            self._expire_outbox(outbox, now)
            if outbox.idle:
                self._busy.discard(slot)
            elif outbox.due(now):
                self._make_ready(slot)
        expired = self._readers.expire(now)
        for future in expired.receipts:
            _fail(future, Unavailable("not every part of the hour could be read in time"))
        for hour in expired.ended + expired.restarted:
            del self._reads[hour]
        for hour in expired.restarted:
            self._begin_read(hour)
        for read in self._reads.values():
            self._ask(read, now)

    def _map_changed(self, state: ClusterState) -> None:
        for shard in [shard for shard, (link, _) in self._links.items() if state.address_of(shard) != link.address]:
            self._links.pop(shard)[1].cancel()
            self._broken(shard)
        self._ready.clear()
        for slot in self._busy:
            self._outboxes[slot].send_again_now()
            self._make_ready(slot)
        for read in self._reads.values():
            read.ask_again_now()

    def _broken(self, shard: str) -> None:
        now = self._loop.time()
        for slot in [slot for slot, where in self._sent_to.items() if where == shard]:
            doubtful = self._outboxes[slot].in_doubt
            if doubtful is not None:
                self._outboxes[slot].hold_off(doubtful.id, now, random.random())  # noqa: S311
        self._asks.pop(shard, None)
        for read in self._reads.values():
            for ask in [ask for ask in read.open_asks if ask.shard == shard]:
                read.fail(ask.id, now, random.random())  # noqa: S311

    def _epoch_of(self, slot: int) -> int:
        held = self._source.state.map
        return held.rows[slot].epoch if held else 0

    def _every_link(self) -> dict[str, ShardLink]:
        return {shard: link for shard in self._source.state.members if (link := self._link(shard)) is not None}

    def _link(self, shard: str) -> ShardLink | None:
        held = self._links.get(shard)
        if held is not None:
            return held[0]
        address = self._source.state.address_of(shard)
        if address is None:
            return None  # Registered after our last look at etcd; the timer comes back to it.
        link = ShardLink(
            shard,
            address,
            fill=lambda: self._fill(shard),
            on_response=self._on_response,
            on_broken=lambda: self._broken(shard),
        )
        self._links[shard] = (link, asyncio.create_task(link.run(), name=f"link to {shard}"))
        return link


def _to_wire(batch: SubBatch[Receipt], epoch: int) -> node_pb2.SubBatch:
    events = [entry.event for entry in batch.entries]
    return node_pb2.SubBatch(
        id=batch.id,
        writer=batch.writer,
        seq=batch.seq,
        slot=batch.slot,
        epoch=epoch,
        hours=[event.hour for event in events],
        users=[event.user for event in events],
        kinds=bytes([event.kind for event in events]),
    )


def _fail(future: "asyncio.Future[HourCounts]", error: TallyError) -> None:
    if not future.done():
        future.set_exception(error)
