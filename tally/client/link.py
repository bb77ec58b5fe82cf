"""One stream to one shard, kept up while there is something to say. What is sent is decided elsewhere."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import grpc
import grpc.aio
import structlog

from protos.tally.internal.v1 import node_pb2_grpc
from tally.client.channel import is_refused_connection, open_channel
from tally.client.jitter import jitter
from tally.client.outbox import backoff_s
from tally.tasks import PAUSE_S, awaited, kept_up

log = structlog.get_logger()

GATHER_MAX_S: Final = 0.001

Request = TypeVar("Request")
Response = TypeVar("Response")


class ShardLink(Generic[Request, Response]):
    """Sends what ``fill`` gives, hands over what comes back, and connects again when the stream breaks."""

    def __init__(
        self,
        shard: str,
        address: str,
        *,
        method: "Callable[[node_pb2_grpc.NodeAsyncStub], Callable[..., Any]]",
        metadata: Callable[[], grpc.aio.Metadata],
        fill: Callable[[], Request | None],
        on_response: Callable[[Response], None],
        on_broken: Callable[[bool], None],
    ) -> None:
        """Prepare a link; ``start`` connects it.

        Args:
            shard: The shard's id.
            address: Its ``host:port``.
            method: Which streaming call of the shard to use.
            metadata: Returns what goes with the stream that is about to begin: from whom it is, and for whom.
            fill: Called when the stream can take a message; None when there is nothing to send.
            on_response: Called with each message that comes back.
            on_broken: Called when the stream broke: nothing that was sent and not answered will be answered. True: its
                machine refuses connections.
        """
        self.shard = shard
        self.address = address
        self._fill = fill
        self._on_response = on_response
        self._on_broken = on_broken
        self._method = method
        self._metadata = metadata
        self._answered = False
        self._failures = 0  # Since the last answer.
        self._task: asyncio.Task[None] | None = None
        self._something_to_send = asyncio.Event()
        self._channel = open_channel(address)
        self.stub: node_pb2_grpc.NodeAsyncStub = node_pb2_grpc.NodeStub(self._channel)

    def wake(self) -> None:
        """Say that ``fill`` has something now."""
        self._something_to_send.set()

    @property
    def failures(self) -> int:
        """How often its stream broke in a row, without an answer since."""
        return 0 if self._answered else self._failures

    def start(self, name: str, *, pause_s: float = PAUSE_S) -> None:
        """Begin to serve; after a failure of our own, again in ``pause_s``."""
        self._task = kept_up(self._serve, name=name, pause_s=pause_s)

    async def close(self) -> None:
        """End the stream, and close the connection; safe to repeat."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._channel.close()

    async def _serve(self) -> None:
        while True:
            await self._something_to_send.wait()
            self._answered = False
            refused = await self._one_stream()
            self._failures = 1 if self._answered else self._failures + 1
            if self._failures == 1:
                log.info("shard_link_broken", shard=self.shard, address=self.address)
            self._on_broken(refused)
            await asyncio.sleep(backoff_s(self._failures, jitter()))

    async def _one_stream(self) -> bool:
        """Use one stream until it breaks, or until either direction fails; return whether nobody listens there."""
        call = self._method(self.stub)(metadata=self._metadata())
        both = [awaited(self._send(call), name="send"), awaited(self._receive(call), name="receive")]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            call.cancel()
            ends = await asyncio.gather(*both, return_exceptions=True)
        refused = False
        for end in ends:
            if isinstance(end, grpc.aio.AioRpcError):
                self._log_refusal(end)
                refused = refused or is_refused_connection(end)
            elif isinstance(end, Exception) and not isinstance(end, asyncio.InvalidStateError):
                # A bug of ours or of the shard's; the way to the shard must outlive it.
                log.error("shard_link_failed", shard=self.shard, exc_info=end)
        return refused

    def _log_refusal(self, error: grpc.aio.AioRpcError) -> None:
        match error.code():
            case grpc.StatusCode.FAILED_PRECONDITION:
                log.warning("shard_is_another", shard=self.shard, address=self.address, reason=error.details())
            case grpc.StatusCode.UNAUTHENTICATED:
                log.warning("shard_knows_another_secret", shard=self.shard, address=self.address)

    async def _receive(self, call: Any) -> None:
        while (response := await call.read()) is not grpc.aio.EOF:
            self._answered = True
            self._on_response(response)

    async def _send(self, call: Any) -> None:
        while True:
            await self._gather()
            while (request := self._fill()) is not None:
                await call.write(request)
            await self._something_to_send.wait()

    async def _gather(self) -> None:
        """Wait until this process has read all that has come to it, so that it goes out as one message.

        A message, and the pass that it makes at the shard, costs as much as many events; to wait costs no more than
        the reading, which is to be done anyway.
        """
        until = time.monotonic() + GATHER_MAX_S
        while self._something_to_send.is_set():
            self._something_to_send.clear()
            if time.monotonic() >= until:
                return
            await asyncio.sleep(0)
