"""Bodies: nothing here needs one, so a small one is thrown away as it comes, and a large one refused.

Pure: bytes go in, and are taken off the buffer that they came in.
"""

import re
from http import HTTPStatus
from typing import Final

from gateway.problems import Refused

BODY_BYTES_MAX: Final = 1024
# Sizes, extensions and trailers: 1024 chunks of one byte need 5 KiB.
CHUNKED_BYTES_MAX: Final = 8192
_LINE_BYTES_MAX: Final = 1024

_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t -~\x80-\xff]*)?")
_TRAILER: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")


class SizedBody:
    """A body whose length the head tells."""

    def __init__(self, size: int) -> None:
        """Expect ``size`` bytes.

        Raises:
            Refused: That is too large.
        """
        if size > BODY_BYTES_MAX:
            raise _too_large()
        self._missing = size

    def take(self, buffer: bytearray) -> bool:
        """Take what belongs to the body off ``buffer``; return whether that is all of it."""
        taken = min(self._missing, len(buffer))
        del buffer[:taken]
        self._missing -= taken
        return self._missing == 0


class ChunkedBody:
    """A body that comes in chunks, each with its size before it."""

    def __init__(self) -> None:
        self._data_left = BODY_BYTES_MAX
        self._bytes_left = CHUNKED_BYTES_MAX
        self._missing = 0  # Of the chunk's data.
        self._is_behind_data = False  # Its line end comes next.
        self._is_at_trailer = False

    def take(self, buffer: bytearray) -> bool:
        """Take what belongs to the body off ``buffer``; return whether that is all of it.

        Raises:
            Refused: It is too large, or not well-formed.
        """
        while True:
            if self._missing:
                taken = min(self._missing, len(buffer))
                self._spend(taken)
                del buffer[:taken]
                self._missing -= taken
            if self._missing or not buffer:
                return False
            if self._is_behind_data and not b"\r\n".startswith(buffer[:2]):
                raise broken()
            line = self._take_line(buffer)
            if line is None:
                return False
            if self._is_behind_data:
                self._is_behind_data = False
            elif not self._is_at_trailer:
                self._begin_chunk(line)
            elif not line:
                return True
            elif not _TRAILER.fullmatch(line):
                raise broken()

    def _begin_chunk(self, line: bytes) -> None:
        found = _CHUNK.fullmatch(line)
        if found is None:
            raise broken()
        size = int(found[1], 16)
        if size > self._data_left:
            raise _too_large()
        self._data_left -= size
        self._missing = size
        self._is_behind_data = size > 0
        self._is_at_trailer = size == 0

    def _take_line(self, buffer: bytearray) -> bytes | None:
        """Take a line without its end; None if it is not complete."""
        end = buffer.find(b"\r\n", 0, _LINE_BYTES_MAX + 2)
        if end < 0:
            if len(buffer) > _LINE_BYTES_MAX:
                raise _too_large()
            if b"\n" in buffer:
                raise broken()
            return None
        line = bytes(buffer[:end])
        self._spend(end + 2)
        del buffer[: end + 2]
        return line

    def _spend(self, size: int) -> None:
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise _too_large()


Body = SizedBody | ChunkedBody


def broken() -> Refused:
    """Return the refusal of a body that is not what it should be."""
    return Refused(HTTPStatus.BAD_REQUEST, "the body is not what its headers say")


def _too_large() -> Refused:
    detail = f"the body must be at most {BODY_BYTES_MAX} bytes long; none is needed"
    return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
