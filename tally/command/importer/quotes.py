"""Whether a row of CSV goes on in the next line, because a quoted field has a line feed in it. Pure.

It follows Python's ``csv`` to the letter: a quote opens a field only where the field begins, two in a row are one of
its characters, and after the one that closes it there is a comma or the end. What is neither is no CSV, and ends the
row.
"""

import re
from enum import Enum, auto
from typing import Final

_QUOTED: Final = re.compile(rb'[^"]*')
_PLAIN: Final = re.compile(rb"[^,\r]*")


class _At(Enum):
    FIELD = auto()  # Where a field begins.
    PLAIN = auto()  # In a field without quotes.
    QUOTED = auto()  # Between its quotes.
    QUOTE = auto()  # After a quote in a quoted field: its end, or the first one of two.
    END = auto()  # Behind what is no CSV.


class Quotes:
    """Reads a row piece by piece, and says whether it is complete."""

    def __init__(self) -> None:
        """Begin at the beginning of a row."""
        self._at = _At.FIELD

    @property
    def open(self) -> bool:
        """Whether the row goes on after a line feed."""
        return self._at is _At.QUOTED

    def feed(self, piece: bytes) -> None:
        """Read on; a line feed belongs to the field that it is in."""
        place = 0
        while place < len(piece) and self._at is not _At.END:
            place = self._step(piece, place)

    def _step(self, piece: bytes, place: int) -> int:
        """Read on from ``place``, to the next byte that makes a difference; return where that ends."""
        match self._at:
            case _At.QUOTED:
                end = _end(_QUOTED, piece, place)
                self._at = _At.QUOTE if end < len(piece) else _At.QUOTED
                return end + 1
            case _At.PLAIN:
                end = _end(_PLAIN, piece, place)
                self._at = {b",": _At.FIELD, b"\r": _At.END}.get(piece[end : end + 1], _At.PLAIN)
                return end + 1
            case _At.FIELD if piece[place : place + 1] != b'"':
                self._at = _At.PLAIN
                return place
            case _At.QUOTE if piece[place : place + 1] != b'"':
                self._at = _At.FIELD if piece[place : place + 1] == b"," else _At.END
                return place + 1
            case _:  # A quote that opens the field, or the second one of two.
                self._at = _At.QUOTED
                return place + 1


def _end(what: re.Pattern[bytes], piece: bytes, place: int) -> int:
    found = what.match(piece, place)
    assert found is not None, "it fits the empty text too"
    return found.end()
