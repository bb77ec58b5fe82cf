"""An answer as a value, and its two forms: a response of aiohttp's, and the bytes that the hot lane writes.

Both forms are the same on the wire, byte for byte: ``test_hot_lane.py`` holds them against each other.
"""

import time
from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp.helpers import rfc822_formatted_time
from aiohttp.web import Response

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


def to_response(answer: HttpAnswer) -> Response:
    """Return the answer as aiohttp sends it."""
    response = Response(status=answer.status, body=answer.body or None, headers=answer.headers)
    if answer.closes:
        response.force_close()
    return response


class Writer:
    """Writes answers to HTTP/1.1 clients as bytes."""

    def __init__(self) -> None:
        self._second = 0
        self._date = b""
        self._newest: dict[int, tuple[HttpAnswer, bytes]] = {}  # Of each status; many are answered with the same.

    def to_bytes(self, answer: HttpAnswer, *, closes: bool = False) -> bytes:
        """Return what is sent; ``closes``: this connection ends, whatever the answer is."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = f"Date: {rfc822_formatted_time()}\r\n".encode()
            self._newest.clear()
        if closes or answer.closes:
            return self._encoded(answer, closes=True)
        newest = self._newest.get(answer.status)
        if newest is None or newest[0] is not answer:
            newest = self._newest[answer.status] = answer, self._encoded(answer, closes=False)
        return newest[1]

    def _encoded(self, answer: HttpAnswer, *, closes: bool) -> bytes:
        head = _head(answer.status, answer.headers)
        length = b"" if answer.status == _NO_CONTENT else b"Content-Length: %d\r\n" % len(answer.body)
        return b"".join((head, length, self._date, b"Connection: close\r\n\r\n" if closes else b"\r\n", answer.body))


@lru_cache(maxsize=64)
def _head(status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    first = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
    return (first + "".join(f"{name}: {value}\r\n" for name, value in headers)).encode("latin-1")
