"""The service between nodes. A handler only enqueues and hands over answers: nothing depends on the stream's life."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import grpc
import grpc.aio
import structlog

from protos.tally.internal.v1 import node_pb2, node_pb2_grpc
from shard.clones.source import refusal
from shard.counting.keys import NUMBER_MAX
from shard.counting.op import OP_EVENTS_MAX, SubBatch
from shard.counting.writers import Answer
from shard.engine.engine import Engine
from shard.engine.hour_parts import PartOfHour, Question
from shard.engine.refusals import Reason
from shard.rpc.calls_wire import INCARNATION_BYTES
from shard.rpc.replication import Cloning, ReplicateStream
from shard.rpc.to_controller import ToController
from tally.client.channel import SENDER_HEADER
from tally.client.counts import HourCounts
from tally.cluster.controller.node_words import switches_of
from tally.cluster.controller.row_requests import REQUESTS_MAX
from tally.cluster.reader import ClusterReader
from tally.errors import NotController, TallyError, Unreachable
from tally.event import HOUR_MAX, KEY_HASH_BYTES, USER_BYTES_MAX
from tally.hashing import SLOTS_MAX, Shape
from tally.tasks import awaited

log = structlog.get_logger()

UNANSWERED_MAX: Final = 4096  # Sub-batches and reads of one stream; who sends more waits.
MESSAGE_MAX: Final = 16_384  # The same, of one message: a sub-batch has an event at least, and a message 9000 of these.
PART_TAKEN_S: Final = 20.0  # Of a clone; who takes it gives up after 5 s without one.
USER_BYTES_SENT_MAX: Final = 4 * USER_BYTES_MAX
"""Names that are too long are refused one by one; but no gateway sends any, and a queue of these is to be small."""


def sub_batch_from_wire(wire: node_pb2.SubBatch, shape: Shape) -> SubBatch | None:
    """Read a sub-batch; None if it can't even be recorded as refused."""
    if max(len(wire.hours), len(wire.users), len(wire.keys)) > OP_EVENTS_MAX:
        return None
    hours, users, keys = tuple(wire.hours), tuple(wire.users), tuple(wire.keys)
    well_formed = (
        wire.id >= 1
        and len(wire.writer) == 16
        and 1 <= wire.seq <= NUMBER_MAX
        and wire.heard <= NUMBER_MAX
        and wire.slot < shape.slots
        and 1 <= len(hours) <= OP_EVENTS_MAX
        and len(hours) == len(users) == len(wire.kinds)
        and max(map(len, users)) <= USER_BYTES_SENT_MAX
        and (not keys or (len(keys) == len(hours) and all(len(key) in {0, KEY_HASH_BYTES} for key in keys)))
    )
    return SubBatch(wire.writer, wire.seq, hours, users, wire.kinds, keys, wire.heard) if well_formed else None


def asks_for_opnum(wire: node_pb2.SubBatch, shape: Shape) -> bool:
    """Tell whether a sub-batch only asks for the opnum of its slot."""
    return wire.seq == 0 and wire.slot < shape.slots and not (wire.hours or wire.users or wire.kinds or wire.keys)


def question_from_wire(wire: node_pb2.HourRead, shape: Shape) -> Question | None:
    """Read a question; None if it asks for what no hour has."""
    if wire.hour > HOUR_MAX or not len(wire.buckets) == len(wire.epochs) <= shape.widest:
        return None
    buckets = tuple(wire.buckets)
    if len(set(buckets)) != len(buckets) or max(buckets, default=0) >= shape.spread_at(wire.hour):
        return None
    return Question(wire.hour, buckets, tuple(wire.epochs))


class _Stream:
    """One open stream: counts what is unanswered, and gathers answers into messages."""

    def __init__(self, engine: Engine, shape: Shape) -> None:
        self._engine = engine
        self._shape = shape
        self._unanswered = 0
        self._answers = node_pb2.ExchangeResponse()
        self._changed = asyncio.Event()
        self._ended = False

    async def take_in(self, requests: AsyncIterator[node_pb2.ExchangeRequest]) -> None:
        """Enqueue all that comes, until the sender ends the stream, or sends what no gateway does."""
        async for request in requests:
            if (count := len(request.sub_batches) + len(request.reads)) > MESSAGE_MAX:
                log.error("stream_refused", messages=count)
                return
            self._unanswered += len(request.sub_batches) + len(request.reads)
            for wire in request.sub_batches:
                self._submit(wire)
            for read in request.reads:
                self._ask(read)
            while self._unanswered >= UNANSWERED_MAX:
                await self._wait()

    def taking_ended(self, taking: asyncio.Task[None]) -> None:
        """Note that nothing more comes; answer what is open, or end at once if it was our own failure."""
        self._ended = True
        if not taking.cancelled() and (failure := taking.exception()) is not None:
            log.error("stream_failed", exc_info=failure)
            self._unanswered = 0
        self._changed.set()

    async def answers(self) -> AsyncIterator[node_pb2.ExchangeResponse]:
        """Yield answers, all that are there at once, until the stream has ended and everything is answered."""
        while not (self._ended and self._unanswered <= 0):
            while not (self._answers.sub_batches or self._answers.reads):
                if self._ended and self._unanswered <= 0:
                    return
                await self._wait()
            message, self._answers = self._answers, node_pb2.ExchangeResponse()
            self._unanswered -= len(message.sub_batches) + len(message.reads)
            self._changed.set()
            yield message

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _submit(self, wire: node_pb2.SubBatch) -> None:
        batch_id = wire.id

        def reply(answer: Answer, epoch: int, opnum: int) -> None:
            self._answers.sub_batches.add(
                id=batch_id,
                outcome=answer.outcome,
                epoch=epoch,
                refusals=answer.refusals,
                opnum=opnum,
                reason=answer.reason,
            )
            self._changed.set()

        if asks_for_opnum(wire, self._shape):
            self._engine.tell_opnum(wire.slot, wire.epoch, reply)
            return
        batch = sub_batch_from_wire(wire, self._shape)
        if batch is None:
            if wire.slot < self._shape.slots:
                self._engine.refused(wire.slot, Reason.MALFORMED)
            reply(Answer(node_pb2.OUTCOME_MALFORMED), 0, 0)
        else:
            self._engine.submit(wire.slot, wire.epoch, batch, reply)

    def _ask(self, wire: node_pb2.HourRead) -> None:
        read_id, question = wire.id, question_from_wire(wire, self._shape)
        if question is None:
            self._tell(read_id, wire.hour, _malformed(wire))
        else:
            part, hour = self._engine.reads.ask(question), question.hour
            part.add_done_callback(lambda part: self._tell(read_id, hour, part.result()))

    def _tell(self, read_id: int, hour: int, part: PartOfHour) -> None:
        self._answers.reads.add(
            id=read_id,
            hour=hour,
            clicks=part.counts.clicks,
            impressions=part.counts.impressions,
            users=part.counts.unique_users,
            refused_buckets=part.refused.keys(),
            refused_outcomes=part.refused.values(),
        )
        self._changed.set()


def _malformed(wire: node_pb2.HourRead) -> PartOfHour:
    asked = wire.buckets[:SLOTS_MAX]  # No hour has more.
    return PartOfHour(HourCounts(0, 0, 0), dict.fromkeys(asked, node_pb2.OUTCOME_MALFORMED))


@asynccontextmanager
async def taking_in(stream: _Stream | ReplicateStream, requests: AsyncIterator[Any]) -> AsyncIterator[None]:
    """Let a stream take in what comes, for as long as it is answered."""
    taking = awaited(stream.take_in(requests), name="stream")
    taking.add_done_callback(stream.taking_ended)
    try:
        yield
    finally:
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)


@contextmanager
def taken_within(seconds: float) -> Iterator[None]:
    """Cancel the running task if what is yielded within the block is not taken in time: others wait for its place."""
    task = asyncio.current_task()
    assert task is not None
    late = asyncio.get_running_loop().call_later(seconds, task.cancel)
    try:
        yield
    finally:
        late.cancel()


class NodeService(node_pb2_grpc.NodeServicer):
    """``tally.internal.v1.Node`` of one shard; who calls it was asked by ``PeerGuard``."""

    def __init__(self, engine: Engine, reader: ClusterReader, to_controller: ToController, shard: str) -> None:
        self._engine = engine
        self._reader = reader
        self._to_controller = to_controller
        self._shard = shard
        self._cloning = Cloning(engine)
        self.stopping = False

    async def Exchange(
        self,
        request_iterator: AsyncIterator[node_pb2.ExchangeRequest],
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> AsyncIterator[node_pb2.ExchangeResponse]:
        """Serve one stream; see node.proto."""
        stream = _Stream(self._engine, self._reader.state.config.shape)
        async with taking_in(stream, request_iterator):
            async for message in stream.answers():
                yield message

    async def Replicate(
        self,
        request_iterator: AsyncIterator[node_pb2.ReplicateRequest],
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> AsyncIterator[node_pb2.ReplicateResponse]:
        """Serve another shard's copies; see node.proto."""
        stream = ReplicateStream(self._engine, _sender(context), self._slots)
        async with taking_in(stream, request_iterator):
            async for message in stream.answers():
                yield message

    async def Clone(
        self, request: node_pb2.CloneRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> AsyncIterator[node_pb2.CloneResponse]:
        """Give a copy to another shard; see node.proto."""
        await self._check_slots(context, [request.slot])
        await _check_incarnation(context, request.incarnation)
        sender = _sender(context)
        if sender not in self._reader.state.members:
            yield refusal()
            return
        async for part in self._cloning.give(sender, request):
            with taken_within(PART_TAKEN_S):
                yield part

    async def Status(
        self, request: node_pb2.StatusRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> node_pb2.StatusResponse:
        """Tell what this shard has and serves; see node.proto."""
        held = self._reader.state.map
        response = node_pb2.StatusResponse(
            shard=self._shard,
            stopping=self.stopping,
            map_epochs=[row.epoch for row in held.rows] if held else (),
            map_shards=held.shards() if held else (),
        )
        self._engine.status(response)
        return response

    async def HintMap(self, request: node_pb2.HintMapRequest, context: object) -> node_pb2.HintMapResponse:
        """Read the map now; see node.proto."""
        self._reader.refresh_soon()
        return node_pb2.HintMapResponse()

    async def ChangeRows(
        self, request: node_pb2.ChangeRowsRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> node_pb2.ChangeRowsResponse:
        """Change rows, as the controller; see node.proto."""
        if len(request.changes) > REQUESTS_MAX:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"at most {REQUESTS_MAX} changes are asked for at once"
            )
        try:
            return node_pb2.ChangeRowsResponse(refusals=await self._to_controller.take(request))
        except NotController as exc:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(exc))
        except Unreachable as exc:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(exc))
        except TallyError as exc:
            await context.abort(grpc.StatusCode.ABORTED, str(exc))

    async def SwitchSlots(
        self, request: node_pb2.SwitchSlotsRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> node_pb2.SwitchSlotsResponse:
        """Hand slots over; see node.proto."""
        if not len(request.slots) == len(request.shards) <= self._slots:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "each slot goes to one shard")
        await self._check_slots(context, request.slots)
        for slot, shard in switches_of(request).items():
            self._engine.hand_over(slot, shard)
        return node_pb2.SwitchSlotsResponse()

    async def FoundCopy(
        self, request: node_pb2.FoundCopyRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> node_pb2.FoundCopyResponse:
        """Begin an empty copy; see node.proto."""
        await self._check_slots(context, [request.slot])
        await _check_incarnation(context, request.incarnation)
        if not await self._engine.found_copy(request.slot, request.incarnation):
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, f"there is a copy of slot {request.slot}")
        return node_pb2.FoundCopyResponse()

    @property
    def _slots(self) -> int:
        return self._reader.state.config.shape.slots

    async def _check_slots(self, context: "grpc.aio.ServicerContext[Any, Any]", slots: Sequence[int]) -> None:
        if any(slot >= self._slots for slot in slots):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"there are {self._slots} slots")


async def _check_incarnation(context: "grpc.aio.ServicerContext[Any, Any]", incarnation: bytes) -> None:
    if len(incarnation) != INCARNATION_BYTES:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"an incarnation has {INCARNATION_BYTES} bytes")


def _sender(context: "grpc.aio.ServicerContext[Any, Any]") -> str:
    found = dict(context.invocation_metadata() or ()).get(SENDER_HEADER, "")
    return found if isinstance(found, str) else ""
