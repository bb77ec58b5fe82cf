"""The end of an HTTP answer, from raw bytes. Pure; knows only what the systems under test send."""

import re
from typing import Final, NamedTuple

_HEAD: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)


class Answer(NamedTuple):
    """One answer that is whole.

    Attributes:
        status: As sent.
        closes: The connection can't be used again.
    """

    status: int
    closes: bool


def whole_answer(received: bytes) -> Answer | None:
    """Return the answer that these bytes are; None if some are missing.

    Raises:
        ValueError: They are none that can be understood.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    status = _HEAD.match(received)
    if not status:
        raise ValueError(f"not an answer: {received[:80]!r}")
    head = received[: end + 2]
    length = _LENGTH.search(head)
    if len(received) < end + 4 + (int(length[1]) if length else 0):
        return None
    return Answer(int(status[1]), _CLOSE.search(head) is not None)
