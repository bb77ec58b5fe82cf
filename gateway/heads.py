"""The head of a request, from its bytes to what it asks: by aiohttp's parser, and then more strictly.

Each head gets a parser of its own, for as long as the call lasts: nothing of a head stays in one while the rest of it
is waited for, and what is held of it is known to the byte.
"""

import asyncio
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import hdrs
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser, HttpVersion10, RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError

from gateway.body import Body, ChunkedBody, SizedBody
from gateway.malformed import (
    HEADER_BYTES_MAX,
    HEADERS_MAX,
    TARGET_BYTES_MAX,
    expects_continue,
    not_well_formed,
    refusal_of_error,
    refusal_of_head,
)
from gateway.problems import Refused
from gateway.request import HttpRequest
from tally.event import KEY_HEADER


class Head(NamedTuple):
    """A head that is served.

    Attributes:
        request: What it asks.
        body: What comes behind it, None for nothing.
        expects_continue: The client waits for a word before it sends the body.
    """

    request: HttpRequest
    body: Body | None = None
    expects_continue: bool = False


class HeadRefused(Refused):
    """A well-formed head that is refused for what it says: its method tells the form of the answer."""

    def __init__(self, refusal: Refused, method: str) -> None:
        super().__init__(refusal.status, refusal.detail)
        self.method = method


class HeadReader:
    """Reads heads, whole ones and parts."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._nobody = BaseProtocol(loop)  # Who would be told of bodies.

    def read(self, raw: bytes) -> Head:
        """Return the head that ``raw`` is, from the request line to the empty line.

        Raises:
            Refused: It is not served.
        """
        messages = self._messages(raw)
        if len(messages) != 1:
            raise not_well_formed()
        message = messages[0]
        try:
            refusal = refusal_of_head(message)
            if refusal is not None:
                raise refusal
            body = _body(message)
        except Refused as exc:
            raise HeadRefused(exc, message.method) from None
        # The inverse of how aiohttp decodes the target: these are the bytes that were sent.
        path, _, query = message.path.encode("utf-8", "surrogateescape").partition(b"?")
        request = HttpRequest(
            message.method,
            path,
            query,
            tuple(message.headers.getall(KEY_HEADER, ())),
            is_http_1_0=message.version == HttpVersion10,
            closes=message.should_close or message.upgrade,
        )
        return Head(request, body, body is not None and expects_continue(message))

    def check_part(self, raw: bytes) -> None:
        """Look at the beginning of a head.

        Raises:
            Refused: However it goes on, it is not served.
        """
        if self._messages(raw):
            raise not_well_formed()

    def _messages(self, raw: bytes) -> list[RawRequestMessage]:
        parser = HttpRequestParser(
            self._nobody,
            self._loop,
            2**16,
            max_line_size=TARGET_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
            max_headers=HEADERS_MAX,
            auto_decompress=False,
        )
        try:
            messages, _, _ = parser.feed_data(raw)
        except HttpProcessingError as exc:
            exc.__traceback__ = None  # It leads to a frame that holds the error, and so to itself.
            raise refusal_of_error(exc) from None
        except ValueError:  # Of a target that passes for a URL at first.
            raise not_well_formed() from None
        return [message for message, _ in messages]


def _body(message: RawRequestMessage) -> Body | None:
    if message.chunked:
        return ChunkedBody()
    length = message.headers.get(hdrs.CONTENT_LENGTH, "0")
    if not (length.isascii() and length.isdigit()):  # The parser has seen to that.
        raise Refused(HTTPStatus.BAD_REQUEST, "Content-Length must be a number")
    return SizedBody(int(length)) if int(length) else None
