"""``GET /metrics`` on a port of its own: one answer for each connection, and never in the way of what the process does.

Everything is bounded: connections, the bytes of a request, and the time from its first byte to the last one of the
answer. Who comes while ``CONNECTIONS_MAX`` are open is sent away without a word: a monitor asks again.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from tally.address import Address
from tally.listening import listen, listens_at

SETTING: Final = "--metrics (TALLY_METRICS)"
PATH: Final = b"/metrics"
CONNECTIONS_MAX: Final = 16
REQUEST_BYTES_MAX: Final = 8 * 1024
REQUEST_S: Final = 5.0

log = structlog.get_logger()


def address_of(text: str | None) -> Address | None:
    """Read where a process is told to listen for this; None: nowhere.

    Raises:
        ConfigError: It is not ``host:port``.
    """
    return None if text is None else Address.parse(SETTING, text, port_min=0)


def answer_to(head: bytes, page: Callable[[], bytes], content_type: str) -> bytes:
    """Return the whole answer to a request; pure but for what ``page`` does.

    Args:
        head: All of the request up to its empty line.
        page: Makes the figures, as text.
        content_type: Of these.
    """
    match head.partition(b"\r\n")[0].split(b" "):
        case [b"GET" | b"HEAD" as method, target, b"HTTP/1.1" | b"HTTP/1.0"]:
            if target.partition(b"?")[0] != PATH:
                return _answer("404 Not Found", b"there is nothing here; try /metrics\n")
            body = page()
            whole = _answer("200 OK", body, content_type=content_type)
            return whole if method == b"GET" else whole[: len(whole) - len(body)]
        case [_, _, b"HTTP/1.1" | b"HTTP/1.0"]:
            return _answer("405 Method Not Allowed", b"/metrics answers to GET, HEAD\n", "Allow: GET, HEAD\r\n")
        case _:
            return _answer("400 Bad Request", b"this is not HTTP/1.1\n")


def _answer(status: str, body: bytes, more: str = "", *, content_type: str = "text/plain; charset=utf-8") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        f"{more}Connection: close\r\n\r\n"
    )
    return head.encode() + body


async def nothing() -> None:
    """Do nothing beforehand."""


class MetricsDoor:
    """Answers whoever asks for the figures of this process."""

    def __init__(
        self,
        page: Callable[[], bytes],
        content_type: str,
        *,
        before: Callable[[], Awaitable[None]] = nothing,
        request_s: float = REQUEST_S,
    ) -> None:
        """Prepare.

        Args:
            page: Makes the figures, and is quick.
            content_type: Of these.
            before: Awaited before each answer.
            request_s: How long a connection may stay.
        """
        self._page = page
        self._before = before
        self._request_s = request_s
        self._content_type = content_type
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._open)

    async def listen(self, address: Address) -> Address:
        """Listen, and return where: port 0 takes a free one.

        Raises:
            AddressTaken: Nothing can listen there.
        """
        self._server = await listen(self._connection, address, SETTING, backlog=CONNECTIONS_MAX)
        there = listens_at(self._server)
        log.info("metrics_listening", address=str(there))
        return there

    def _connection(self) -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(REQUEST_BYTES_MAX), self._take)

    async def close(self) -> None:
        """Take no more requests, and drop those that are open; safe to repeat."""
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._open) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._open.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            self._open.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Who is slow, goes away or sends too much gets no answer, and needs none.
        with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            async with asyncio.timeout(self._request_s):
                head = await reader.readuntil(b"\r\n\r\n")
                await self._before()
                writer.write(answer_to(head, self._page, self._content_type))
                await writer.drain()
