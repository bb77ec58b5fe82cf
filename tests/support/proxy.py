"""A way between two processes that a test can cut, block or lengthen: TCP in, TCP out.

All ways of a test share one thread, so that a busy test does not slow them. What is on its way is bounded: when it is
too much, a direction that is blocked or slow is not read any further, and TCP holds the sender back.
"""

import asyncio
import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

T = TypeVar("T")

_CHUNK: Final = 16 * 1024
_ON_THE_WAY: Final = 1024 * 1024  # Bytes in one direction of one connection, while they are delayed.
_CONNECTIONS: Final = 500
_DO_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Line:
    """What a way does with what comes.

    Attributes:
        to_server: Whether anything passes from who connected. If not, it waits, like what TCP sends again and again.
        to_client: Whether anything passes to who connected.
        refuses: Nobody listens, and whoever is connected loses the connection.
        delay_s: How much longer everything takes, in each direction.
        bytes_per_s: How much passes in each direction of a connection; 0: as much as comes.
    """

    to_server: bool = True
    to_client: bool = True
    refuses: bool = False
    delay_s: float = 0.0
    bytes_per_s: int = 0


PASS: Final = Line()
SILENT: Final = Line(to_server=False, to_client=False)
REFUSES: Final = Line(refuses=True)


class Proxies:
    """``with Proxies() as proxies:`` gives ways with one thread for all of them; both are gone when the block ends."""

    def __init__(self) -> None:
        """Prepare."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._proxies: list[Proxy] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for proxy in self._proxies:
                self.do(proxy.close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_DO_S)
            self._loop.close()

    def to(self, target: Callable[[], str], *, host: str = "127.0.0.1") -> "Proxy":
        """Lay a way from ``host`` to the ``host:port`` that ``target`` returns when somebody connects."""
        proxy = Proxy(self, target, host)
        self.do(proxy.listen())
        self._proxies.append(proxy)
        return proxy

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Have something done in the thread of the ways, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_DO_S)


class Proxy:
    """One way. ``address`` and ``behave`` are for the test, the rest runs in the thread of the ways."""

    def __init__(self, proxies: Proxies, target: Callable[[], str], host: str) -> None:
        """Prepare; ``Proxies.to`` makes them."""
        self._host = host
        self._proxies = proxies
        self._target = target
        self._line = PASS
        self._port = 0
        self._held: socket.socket | None = None  # Bound, without listening: the port stays ours, and refuses.
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    @property
    def address(self) -> str:
        """``host:port`` where the way begins; stays the same."""
        return f"{self._host}:{self._port}"

    def behave(self, line: Line) -> None:
        """Do so from now on, also with what is connected."""
        self._proxies.do(self._behave(line))

    def strand(self) -> None:
        """Let nothing pass any more on what is connected now, as when a router forgets it; who connects anew passes."""
        self._proxies.do(self._strand())

    async def listen(self) -> None:
        """Take connections, on the port of before if there was one."""
        held, self._held = self._held or _bound(self._host, self._port), None
        self._port = held.getsockname()[1]
        self._server = await asyncio.start_server(self._connected, sock=held, limit=_CHUNK)

    async def close(self) -> None:
        """End all that is connected, and listen no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._held is not None:
            self._held.close()
            self._held = None
        while self._connections:
            ending = list(self._connections)
            for connection in ending:
                connection.task.cancel()
            await asyncio.wait([connection.task for connection in ending])

    async def _behave(self, line: Line) -> None:
        if line.refuses and not self._line.refuses:
            await self.close()
            self._held = _bound(self._host, self._port)
        if self._line.refuses and not line.refuses:
            await self.listen()
        self._line = line
        for connection in self._connections:
            connection.behave(line)

    async def _strand(self) -> None:
        for connection in self._connections:
            connection.stranded = True
            connection.behave(self._line)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= _CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        connection = _Connection(task, writer, self._line)
        self._connections.add(connection)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):  # Cancelled by us alone, when the way closes.
                await connection.run(reader, self._target())
        finally:
            self._connections.discard(connection)


class _Connection:
    """Who connected, whom it is connected to, and the two directions between them."""

    def __init__(self, task: asyncio.Task[None], client: asyncio.StreamWriter, line: Line) -> None:
        self.task = task
        self.stranded = False
        self._client = client
        self._server: asyncio.StreamWriter | None = None
        self._to_server, self._to_client = asyncio.Event(), asyncio.Event()
        self.behave(line)

    def behave(self, line: Line) -> None:
        self.line = line
        for opened, passes in ((self._to_server, line.to_server), (self._to_client, line.to_client)):
            if passes and not self.stranded:
                opened.set()
            else:
                opened.clear()

    async def run(self, reader: asyncio.StreamReader, target: str) -> None:
        """Pass everything on until both sides have said their last word, or one of them is gone."""
        try:
            await self._to_server.wait()  # A call for a connection is something that has to arrive, too.
            host, _, port = target.rpartition(":")
            answers, self._server = await asyncio.open_connection(host, int(port), limit=_CHUNK)
            there = _Direction(self, reader, self._server, self._to_server, self._to_client)
            back = _Direction(self, answers, self._client, self._to_client, self._to_server)
            async with asyncio.TaskGroup() as all_four:
                for work in (there.take(), there.bring(), back.take(), back.bring()):
                    all_four.create_task(work)
        except* OSError:
            pass  # The other end is told by the end of its connection.
        finally:
            for writer in (self._client, self._server):
                if writer is not None:
                    writer.transport.abort()


class _Direction:
    """What is on its way from one side to the other, as late and as slow as the line is."""

    def __init__(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        opened: asyncio.Event,
        back: asyncio.Event,
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._writer = writer
        self._opened = opened
        self._back = back
        self._late: deque[tuple[float, bytes]] = deque()  # When it is due; nothing: the last word.
        self._bytes = 0
        self._changed = asyncio.Condition()

    async def take(self) -> None:
        """Take what is sent, as long as not too much of it is on its way."""
        data = b"?"
        while data:
            try:
                data = await self._reader.read(_CHUNK)
            except OSError:  # That it is gone has to arrive, like all that it says.
                data = b""
            async with self._changed:
                self._late.append((time.monotonic() + self._connection.line.delay_s, data))
                self._bytes += len(data)
                self._changed.notify_all()
                await self._changed.wait_for(lambda: self._bytes < _ON_THE_WAY)

    async def bring(self) -> None:
        """Hand it over when it is due, and when the way is open."""
        data = b"?"
        while data:
            async with self._changed:
                await self._changed.wait_for(lambda: bool(self._late))
                due, data = self._late.popleft()
                self._bytes -= len(data)
                self._changed.notify_all()
            await asyncio.sleep(due - time.monotonic())
            if self._connection.line.bytes_per_s:
                await asyncio.sleep(len(data) / self._connection.line.bytes_per_s)
            await self._opened.wait()
            try:
                await self._hand_over(data)
            except OSError:
                await self._back.wait()  # Nobody is there any more; but who sends can't hear that yet.
                raise

    async def _hand_over(self, data: bytes) -> None:
        if data:
            self._writer.write(data)
            await self._writer.drain()
        elif not self._writer.transport.is_closing():
            self._writer.write_eof()


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that has the port, and does not listen: who connects is refused."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((host, port))
    return held
