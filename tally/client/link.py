"""One stream to one shard, kept up while there is something to say. What is sent is decided elsewhere."""

import asyncio
import random
from collections.abc import Callable

import grpc
import grpc.aio
import structlog

from protos.tally.internal.v1 import node_pb2, node_pb2_grpc
from tally.client.channel import open_channel
from tally.client.outbox import backoff_s

log = structlog.get_logger()


class ShardLink:
    """Sends what ``fill`` gives, hands over what comes back, and connects again when the stream breaks."""

    def __init__(
        self,
        shard: str,
        address: str,
        *,
        fill: Callable[[], node_pb2.ExchangeRequest | None],
        on_response: Callable[[node_pb2.ExchangeResponse], None],
        on_broken: Callable[[], None],
    ) -> None:
        """Prepare a link; ``run`` connects it.

        Args:
            shard: The shard's id, for the log.
            address: Its ``host:port``.
            fill: Called when the stream can take a message; None when there is nothing to send.
            on_response: Called with each message that comes back.
            on_broken: Called when the stream broke: nothing that was sent and not answered will be answered.
        """
        self.shard = shard
        self.address = address
        self._fill = fill
        self._on_response = on_response
        self._on_broken = on_broken
        self._something_to_send = asyncio.Event()
        self._channel = open_channel(address)
        self.stub: node_pb2_grpc.NodeAsyncStub = node_pb2_grpc.NodeStub(self._channel)

    def wake(self) -> None:
        """Say that ``fill`` has something now."""
        self._something_to_send.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        failures = 0
        try:
            while True:
                await self._something_to_send.wait()
                answered = await self._one_stream()
                failures = 1 if answered else failures + 1
                if failures == 1:
                    log.info("shard_link_broken", shard=self.shard, address=self.address)
                self._on_broken()
                await asyncio.sleep(backoff_s(failures, random.random()))  # noqa: S311 - jitter is no secret.
        finally:
            await self._channel.close()

    async def _one_stream(self) -> bool:
        """Use one stream until it breaks; return whether anything was answered on it."""
        call = self.stub.Exchange()
        sender = asyncio.create_task(self._send(call))
        answered = False
        try:
            while True:
                response = await call.read()
                if response is grpc.aio.EOF:
                    return answered
                assert isinstance(response, node_pb2.ExchangeResponse)
                answered = True
                self._on_response(response)
        except grpc.aio.AioRpcError:
            return answered
        finally:
            sender.cancel()
            call.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _send(
        self, call: "grpc.aio.StreamStreamCall[node_pb2.ExchangeRequest, node_pb2.ExchangeResponse]"
    ) -> None:
        try:
            while True:
                self._something_to_send.clear()
                while (request := self._fill()) is not None:
                    await call.write(request)
                await self._something_to_send.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # The reading side sees the same break, and says so.
