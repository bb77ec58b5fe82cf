"""What has come from one client: bytes go in as they come, requests come out one by one, without their bodies."""

from typing import Final

from gateway.body import Body
from gateway.heads import Head, HeadReader, HeadRefused
from gateway.hot_lane import HOT_BYTES_MAX, HotLane
from gateway.malformed import HEAD_BYTES_MAX, headers_too_large
from gateway.problems import Refused
from gateway.request import HttpRequest

_HEAD_END: Final = b"\r\n\r\n"


class Inbox:
    """The bytes of one connection that belong to no request yet that was taken out.

    Attributes:
        buffer: The bytes; to be read by others, and changed here.
        expects_continue: The client waits for a word before it sends the body of the request that is not complete.
    """

    __slots__ = (
        "_body",
        "_has_line",
        "_lane",
        "_look_at",
        "_reader",
        "_request",
        "_searched",
        "buffer",
        "expects_continue",
    )

    def __init__(self, lane: HotLane, reader: HeadReader) -> None:
        self._lane = lane
        self._reader = reader
        self.buffer = bytearray()
        self._searched = 0  # So far there is no end of a head in the buffer.
        self._has_line = False
        self._look_at = 1  # When so much of a head is here, it is looked at.
        self._request: HttpRequest | None = None  # Its body is not complete.
        self._body: Body | None = None
        self.expects_continue = False

    @property
    def held_bytes(self) -> int:
        """How much is held of requests that are not complete, or not taken out."""
        request = self._request
        return len(self.buffer) + (0 if request is None else len(request.path) + len(request.query))

    @property
    def is_in_body(self) -> bool:
        """Whether the body of a request is not complete."""
        return self._request is not None

    @property
    def is_within_request(self) -> bool:
        """Whether something of a request is here."""
        return bool(self.buffer) or self._request is not None

    def add(self, data: bytes) -> None:
        """Take in what has come."""
        self.buffer += data
        if not self._has_line and b"\n" in data:
            self._has_line, self._look_at = True, 1

    def clear(self) -> None:
        """Forget all of it."""
        self.buffer = bytearray()
        self._begin_head()
        self._request = self._body = None

    def next_request(self) -> HttpRequest | None:
        """Take the next request out; return None if it is not complete.

        Raises:
            Refused: It is not served; what comes behind it can't be understood.
        """
        if self._request is None:
            head = self._next_head()
            if head is None or head.body is None:
                return None if head is None else head.request
            self._request, self._body = head.request, head.body
            self.expects_continue = head.expects_continue
        assert self._body is not None
        try:
            is_complete = self._body.take(self.buffer)
        except Refused as exc:
            raise HeadRefused(exc, self._request.method) from None
        if not is_complete:
            return None
        request, self._request, self._body = self._request, None, None
        self._begin_head()
        return request

    def _next_head(self) -> Head | None:
        buffer = self.buffer
        if buffer and buffer[0] in b"\r\n":  # Empty lines before a request are passed over.
            del buffer[: len(buffer) - len(buffer.lstrip(b"\r\n"))]
        end = buffer.find(_HEAD_END, max(0, self._searched - len(_HEAD_END) + 1))
        if end < 0:
            self._look_at_part()
            return None
        size = end + len(_HEAD_END)
        if size > HEAD_BYTES_MAX:
            raise headers_too_large()
        raw = bytes(buffer[:size])
        del buffer[:size]
        self._begin_head()
        hot = self._lane.read(raw) if size <= HOT_BYTES_MAX else None
        return self._reader.read(raw) if hot is None else Head(hot)

    def _begin_head(self) -> None:
        self._searched, self._look_at = 0, 1
        self._has_line = b"\n" in self.buffer

    def _look_at_part(self) -> None:
        """Refuse what no rest can make a head of: at the first byte, at the first line, and at twice as many bytes."""
        size = self._searched = len(self.buffer)
        if size >= self._look_at:
            self._look_at = 2 * size
            self._reader.check_part(bytes(self.buffer))
        if size > HEAD_BYTES_MAX:
            raise headers_too_large()
