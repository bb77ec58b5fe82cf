"""A gRPC proxy that delivers everything twice, and some of it once more when it is old. A process of its own.

    python -m tests.support.repeating AGAIN_S COUNTS_FILE LISTEN=TARGET ...

* What comes on one of ``STREAMS`` is written twice to the same stream, and all answers go back: who sent it has to cope
  with two. Any other call is made twice at the same time; the caller gets the answers of the second, because a second
  Clone takes the place of the first.
* Some of each kind are delivered once more after AGAIN_S, in a call of their own, whose answers nobody gets.

How many of each kind were delivered twice, and again, stands in COUNTS_FILE, as JSON: kind -> [twice, again].
"""

import asyncio
import contextlib
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import Message

from protos.tally.internal.v1 import node_pb2
from tally.client.channel import SERVER_OPTIONS, open_channel

STREAMS: Final[Mapping[str, type[Message]]] = {
    "Exchange": node_pb2.ExchangeRequest,
    "Replicate": node_pb2.ReplicateRequest,
}

_OLD_MAX: Final = 10  # Of one kind that wait to be delivered again.
_OLD_CALL_S: Final = 5.0
_FIRST_S: Final = 0.01  # Until the first of two calls is under way.
_COUNT_S: Final = 0.5
_STOP_S: Final = 0.2


def kinds_in(method: str, message: bytes) -> list[str]:
    """Return what is in a message: the fields of a stream's, else the name of the call."""
    kind = STREAMS.get(method)
    return [field.name for field, _ in kind.FromString(message).ListFields()] if kind else [method]


class Counts:
    """What was delivered how often."""

    def __init__(self) -> None:
        self.twice: Counter[str] = Counter()
        self.again: Counter[str] = Counter()
        self.waiting: Counter[str] = Counter()

    async def keep(self, file: Path) -> None:
        """Write them to a file from time to time."""
        while True:
            new = file.with_suffix(".new")
            new.write_text(json.dumps({kind: [count, self.again[kind]] for kind, count in self.twice.items()}))
            new.replace(file)  # Else who reads meanwhile may find nothing in it.
            await asyncio.sleep(_COUNT_S)


class Way(grpc.GenericRpcHandler):
    """The way to one server. Belongs to one event loop."""

    def __init__(self, target: str, counts: Counts, again_s: float) -> None:
        self._channel = open_channel(target)
        self._counts = counts
        self._again_s = again_s
        self._tasks: set[asyncio.Task[None]] = set()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Take any call, whatever it is called."""
        path = handler_call_details.method
        metadata = _passed_on(handler_call_details.invocation_metadata)

        async def answers(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            call = self._call(path, metadata, timeout_s=context.time_remaining())
            sending = self._begin(self._send(path, metadata, requests, call))
            try:
                async for answer in call:
                    yield answer
            except grpc.aio.AioRpcError as exc:
                await context.abort(exc.code(), exc.details() or "", exc.trailing_metadata() or ())
            finally:
                sending.cancel()
                call.cancel()

        return grpc.stream_stream_rpc_method_handler(answers)

    def _call(self, path: str, metadata: grpc.aio.Metadata, *, timeout_s: float | None) -> Any:
        return self._channel.stream_stream(path)(metadata=metadata, timeout=timeout_s)

    async def _send(self, path: str, metadata: grpc.aio.Metadata, requests: AsyncIterator[bytes], call: Any) -> None:
        method = path.rpartition("/")[2]
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # Whoever reads hears of it.
            async for message in requests:
                if method in STREAMS:
                    await call.write(message)
                else:
                    self._begin(self._old(path, metadata, message))
                    await asyncio.sleep(_FIRST_S)
                await call.write(message)
                kinds = kinds_in(method, message)
                self._counts.twice.update(kinds)
                if any(self._counts.waiting[kind] < _OLD_MAX for kind in kinds):
                    self._begin(self._later(path, metadata, message, kinds))
            await call.done_writing()

    async def _later(self, path: str, metadata: grpc.aio.Metadata, message: bytes, kinds: list[str]) -> None:
        self._counts.waiting.update(kinds)
        await asyncio.sleep(self._again_s)
        self._counts.waiting.subtract(kinds)
        await self._old(path, metadata, message)
        self._counts.again.update(kinds)

    async def _old(self, path: str, metadata: grpc.aio.Metadata, message: bytes) -> None:
        """Deliver it in a call of its own."""
        call = self._call(path, metadata, timeout_s=_OLD_CALL_S)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(message)
            await call.done_writing()
            async for _ in call:
                pass

    def _begin(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _passed_on(metadata: Any) -> grpc.aio.Metadata:
    """Return what the caller said about its call; the rest is said by gRPC again."""
    return grpc.aio.Metadata(*((key, value) for key, value in metadata or () if key.startswith("tally-")))


def _ways(arguments: list[str]) -> Iterator[tuple[str, str]]:
    for argument in arguments:
        listen, _, target = argument.partition("=")
        yield listen, target


async def main(again_s: float, file: Path, ways: list[str]) -> None:
    """Serve until SIGTERM."""
    counts = Counts()
    servers = []
    for listen, target in _ways(ways):
        server = grpc.aio.server(options=SERVER_OPTIONS)
        server.add_generic_rpc_handlers((Way(target, counts, again_s),))
        server.add_insecure_port(listen)
        await server.start()
        servers.append(server)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    keeping = asyncio.create_task(counts.keep(file))
    await stop.wait()
    keeping.cancel()
    await asyncio.gather(*(server.stop(_STOP_S) for server in servers))


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
