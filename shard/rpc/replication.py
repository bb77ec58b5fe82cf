"""What other shards' copies ask, as gRPC: streams of calls, and clones."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Final

import structlog

from protos.tally.internal.v1 import node_pb2
from shard.clones.source import clone_parts, refusal
from shard.engine.calls import LOGGED_MAX, Granted
from shard.engine.engine import Engine
from shard.replica.words import Answer, Clone
from shard.rpc.calls_wire import CALLS_MAX, Call, calls_of, count_of, next_answers, size_of
from shard.storage.disk import ended
from tally.cluster.controller.node_words import name_from_wire
from tally.tasks import awaited

log = structlog.get_logger()

UNANSWERED_MAX: Final = 16_384
UNANSWERED_BYTES_MAX: Final = 64 * 2**20
CLONES_AT_ONCE: Final = 4
CLONE_BYTES_PER_S: Final = 32 * 2**20


class ReplicateStream:
    """One open stream of another shard: gathers answers into messages.

    Who sends without reading is not read from any more, until what he sent before is answered and taken.
    """

    def __init__(self, engine: Engine, sender: str, slots: int) -> None:
        self._engine = engine
        self._sender = sender
        self._slots = slots
        self._open: dict[int, int] = {}  # Calls whose answers were not taken yet: their sizes.
        self._bytes = 0  # Of all these.
        self._answers: deque[tuple[Call, Answer]] = deque()
        self._changed = asyncio.Event()
        self._ended = False

    async def take_in(self, requests: AsyncIterator[node_pb2.ReplicateRequest]) -> None:
        """Hand over all calls, until the sender ends the stream, or sends what no shard does."""
        async for request in requests:
            if count_of(request) > CALLS_MAX:
                log.error("stream_refused", sender=self._sender[:LOGGED_MAX], calls=count_of(request))
                return
            for call in calls_of(request, self._slots):
                if call.call not in self._open:
                    self._ask(call)
            while len(self._open) >= UNANSWERED_MAX or self._bytes >= UNANSWERED_BYTES_MAX:
                self._changed.clear()
                await self._changed.wait()

    def _ask(self, call: Call) -> None:
        def answered(answer: Answer | Granted | None) -> None:
            if answer is None:
                self._close(call.call)
            else:
                assert isinstance(answer, Answer)
                self._answers.append((call, answer))
            self._changed.set()

        self._open[call.call] = size_of(call)
        self._bytes += size_of(call)
        self._engine.calls.asked(self._sender, call.slot, call.message, answered)

    def _close(self, call: int) -> None:
        self._bytes -= self._open.pop(call)

    def taking_ended(self, taking: asyncio.Task[None]) -> None:
        """Note that nothing more comes: who asked is gone, and asks again if it is not."""
        self._ended = True
        if not taking.cancelled() and (failure := taking.exception()) is not None:
            log.error("stream_failed", exc_info=failure)
        self._changed.set()

    async def answers(self) -> AsyncIterator[node_pb2.ReplicateResponse]:
        """Yield answers, all that are there at once, until the stream has ended."""
        while not self._ended:
            if not self._answers:
                self._changed.clear()
                await self._changed.wait()
                continue
            response = next_answers(self._answers)
            for answer in response.answers:
                self._close(answer.call)
            self._changed.set()
            yield response


class Cloning:
    """Gives copies to joiners."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open = 0

    async def give(self, sender: str, request: node_pb2.CloneRequest) -> AsyncIterator[node_pb2.CloneResponse]:
        """Yield the answer to a Clone."""
        if self._open >= CLONES_AT_ONCE:
            yield refusal()
            return
        self._open += 1
        try:
            async for part in self._parts(sender, request):
                yield part
        finally:
            self._open -= 1

    async def _parts(self, sender: str, request: node_pb2.CloneRequest) -> AsyncIterator[node_pb2.CloneResponse]:
        future: asyncio.Future[Granted | None] = asyncio.get_running_loop().create_future()

        def answered(answer: Answer | Granted | None) -> None:
            assert not isinstance(answer, Answer)
            if not future.done():
                future.set_result(answer)
            elif answer is not None:
                answer.snapshot.close()

        head = name_from_wire(request.head) if request.HasField("head") else None
        number = self._engine.calls.asked(sender, request.slot, Clone(request.incarnation.hex(), head), answered)
        try:
            granted = await future
        except asyncio.CancelledError:
            if not future.cancelled() and (unused := future.result()) is not None:
                unused.snapshot.close()  # It was granted, and the joiner went before this task ran again.
            raise
        finally:
            self._engine.calls.forget(number)
        if granted is None:
            yield refusal()
            return
        began, sent = time.monotonic(), 0
        parts = clone_parts(granted.snapshot, granted.record, granted.head, granted.epoch, granted.after)
        try:
            while (part := await self._next(parts)) is not None:
                yield part
                sent += part.ByteSize()
                ahead_s = sent / CLONE_BYTES_PER_S - (time.monotonic() - began)
                if ahead_s > 0:
                    await asyncio.sleep(ahead_s)
        finally:
            parts.close()
            granted.snapshot.close()

    async def _next(self, parts: Iterator[node_pb2.CloneResponse]) -> node_pb2.CloneResponse | None:
        """Read the next part in a thread; that has ended when this returns, also if the caller is gone."""
        reading = awaited(self._engine.beside(lambda: next(parts, None)), name="part of a clone")
        try:
            part: node_pb2.CloneResponse | None = await asyncio.shield(reading)
            return part
        finally:
            await ended(reading)
