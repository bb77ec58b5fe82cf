"""An answer as a value, and as the bytes that are sent."""

import time
from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp.helpers import rfc822_formatted_time

from gateway.request import HttpRequest

SERVER: Final = "tally"  # Instead of the names and versions of what it is made of.

_NO_CONTENT: Final = HTTPStatus.NO_CONTENT.value


class HttpAnswer(NamedTuple):
    """What a request is answered.

    Attributes:
        status: The status code.
        headers: In the order in which they are sent; length, date and connection are added to them.
        body: Nothing for 204.
        closes: The connection can't be used again.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    closes: bool = False


NO_CONTENT: Final = HttpAnswer(_NO_CONTENT, (("Server", SERVER),))

_TEXT_HEADERS: Final = (
    ("Server", SERVER),
    ("Content-Type", "text/plain; charset=utf-8"),
    ("Cache-Control", "no-store"),  # A stored answer would miss what was counted since.
)


def text(lines: str, status: int = HTTPStatus.OK.value) -> HttpAnswer:
    """Return an answer in plain text."""
    return HttpAnswer(status, _TEXT_HEADERS, lines.encode())


class Writer:
    """Writes answers as bytes."""

    def __init__(self) -> None:
        self._second = 0
        self._date = b""
        self._newest: dict[int, tuple[HttpAnswer, bytes]] = {}  # Of each status; many are answered with the same.

    def to_bytes(self, answer: HttpAnswer, *, closes: bool = False) -> bytes:
        """Return what an HTTP/1.1 client is sent; ``closes``: this connection ends, whatever the answer is."""
        if int(time.time()) != self._second:
            self._keep_date()
        if closes or answer.closes:
            return self._encoded(answer, b"Connection: close\r\n")
        newest = self._newest.get(answer.status)
        if newest is None or newest[0] is not answer:
            newest = self._newest[answer.status] = answer, self._encoded(answer)
        return newest[1]

    def to_bytes_for(self, request: HttpRequest, answer: HttpAnswer, *, closes: bool = False) -> bytes:
        """Return what the client that sent ``request`` is sent: of HTTP/1.0 perhaps, or without a body."""
        closes = closes or answer.closes
        if request.is_http_1_0:
            self._keep_date()
            encoded = self._encoded(answer, b"" if closes else b"Connection: keep-alive\r\n")
            encoded = encoded.replace(b"HTTP/1.1", b"HTTP/1.0", 1)
        else:
            encoded = self.to_bytes(answer, closes=closes)
        return encoded[: len(encoded) - len(answer.body)] if request.method == "HEAD" else encoded

    def _keep_date(self) -> None:
        self._second = int(time.time())
        self._date = f"Date: {rfc822_formatted_time()}\r\n".encode()
        self._newest.clear()

    def _encoded(self, answer: HttpAnswer, connection: bytes = b"") -> bytes:
        head = _head(answer.status, answer.headers)
        length = b"" if answer.status == _NO_CONTENT else b"Content-Length: %d\r\n" % len(answer.body)
        return b"".join((head, length, self._date, connection, b"\r\n", answer.body))


@lru_cache(maxsize=64)
def _head(status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    first = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
    return (first + "".join(f"{name}: {value}\r\n" for name, value in headers)).encode("latin-1")
