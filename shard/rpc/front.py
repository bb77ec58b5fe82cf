"""Stands before all public services: takes calls or refuses them, reads their messages, says what is wrong with one.

gRPC would read every message at once, whatever its size and number, and answer bytes that are no message with INTERNAL.
So each method with one request is served as one with a stream of requests, which looks the same on the wire: its
message is read here, as bytes, when the call was taken.

Invariants:
  * no call waits for ever for its message, and no number of them keeps others from being served (``admission.py``);
  * a message is kept by the method that it is for, and by nothing else;
  * what is refused gets a status with a detail: RetryInfo if it may be sent again, BadRequest if it may not.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import code_pb2

from shard.rpc.admission import Admission
from shard.rpc.statuses import Context, refuse_argument, refuse_for_now
from shard.rpc.wire_faults import fault_in

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]

READ_MAX_S: Final = 5.0  # For a whole message, from the moment at which its call was taken.
GONE_S: Final = 0.1

_ALWAYS: Final = "/grpc.health.v1.Health/Check"
"""Needs no room: it is answered at once, and a shard that is busy must not look dead."""


class Front(grpc.aio.ServerInterceptor):
    """All public calls go through it. Belongs to one event loop."""

    def __init__(self, admission: Admission[asyncio.Timeout] | None = None) -> None:
        """Prepare; ``admission`` says how many calls there may be."""
        self._admission: Admission[asyncio.Timeout] = admission or Admission()
        self._behind: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Return what serves a call; of an unknown method there is none."""
        method = handler_call_details.method
        behind = self._behind.get(method)
        if behind is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            behind = self._behind[method] = self._before(handler, always=method == _ALWAYS)
        return behind

    def _before(self, handler: Any, *, always: bool) -> "Handler":
        if handler.unary_unary is not None:

            async def answer(requests: AsyncIterator[bytes], context: Context) -> Any:
                begun = handler.unary_unary(
                    await self._message(handler, requests, context, always=always, streams=False), context
                )  # Whose the message is from now on: nothing here keeps it.
                async with self._serving(streams=False):
                    return await begun

            return grpc.stream_unary_rpc_method_handler(
                answer,
                response_serializer=handler.response_serializer,
            )
        if handler.unary_stream is not None:

            async def answer_on(requests: AsyncIterator[bytes], context: Context) -> None:
                message = await self._message(handler, requests, context, always=always, streams=True)
                async with self._serving(streams=True):
                    await _write_all(handler.unary_stream(message, context), context)

            return grpc.stream_stream_rpc_method_handler(
                answer_on,
                response_serializer=handler.response_serializer,
            )
        assert handler.stream_stream is not None, "no public method takes a stream and answers once"

        async def answer_each(requests: AsyncIterator[Any], context: Context) -> None:
            await self._need_room(context, streams=True)
            async with self._serving(streams=True):
                await _write_all(handler.stream_stream(requests, context), context)

        return grpc.stream_stream_rpc_method_handler(
            answer_each,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    async def _need_room(self, context: Context, *, streams: bool) -> None:
        if not self._admission.has_room(streams=streams):
            await refuse_for_now(context, "too many calls are open", code=code_pb2.RESOURCE_EXHAUSTED)

    @asynccontextmanager
    async def _serving(self, *, streams: bool) -> AsyncIterator[None]:
        self._admission.begin_serving(streams=streams)
        try:
            yield
        finally:
            self._admission.end_serving(streams=streams)

    async def _message(
        self, handler: Any, requests: AsyncIterator[bytes], context: Context, *, always: bool, streams: bool
    ) -> Any:
        """Return the one message of a call, or end the call."""
        if not always:
            await self._need_room(context, streams=streams)
        data = await self._read(requests, context)
        try:
            return handler.request_deserializer(data)
        except DecodeError:
            fault = fault_in(data, handler.request_deserializer.__self__.DESCRIPTOR)
        del data  # A client may take its time to hear of it.
        return await refuse_argument(context, fault.field, fault.reason)

    async def _read(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        now = asyncio.get_running_loop().time
        until = now() + READ_MAX_S
        try:
            async with asyncio.timeout_at(until) as alarm:
                given_up = self._admission.begin_reading(alarm)
                if given_up is not None:
                    given_up.reschedule(now())
                try:
                    data = await anext(requests, None)
                finally:
                    self._admission.end_reading(alarm)
        except TimeoutError:
            if now() >= until:
                await refuse_for_now(context, "the message did not arrive in time")
            await refuse_for_now(context, "too many messages are on their way", code=code_pb2.RESOURCE_EXHAUSTED)
        if data is None:
            # The call is over, and this task about to be cancelled, if its message is too large or the client went.
            await asyncio.sleep(GONE_S)
            await refuse_argument(context, "", "there is no message")
        return data


async def _write_all(answers: Any, context: Context) -> None:
    """Send what a method gives that answers more than once: by itself, as a coroutine, or as a generator."""
    if asyncio.iscoroutine(answers):
        await answers
        return
    async for answer in answers:
        await context.write(answer)
