"""How a database shows that none of its writes is missing. Pure, but for the note, a file of a few bytes beside it.

RocksDB's log tells a flipped bit by its checksum. It does not tell everything: zeros where a record should begin are
passed over without a word, in each of its recovery modes, and what comes after them is applied; and a log that lost its
end looks like one that never had it. Both would be wrong numbers. So

  * each write has a number and puts the link of that number in, and takes out the link before it. While nothing is
    missing there is exactly one link; a write that is missing leaves the link before it behind, for good;
  * after each flush its last number is noted in a file. A database whose link is lower has lost what was flushed.

The note is written, not flushed: after a power cut it may be older, or torn and so unknown. It is never ahead.
"""

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from xxhash import xxh3_64_intdigest

from tally.errors import StoreCorrupt

LINKS: Final = (b"\xff", b"\xff\xff")
"""The range of all links, behind all other keys."""

NOTE_FILE: Final = "tally-flushed"  # In the database's directory: who removes that removes what was noted of it.

_LINK: Final = struct.Struct(">cQ")
_NOTE: Final = struct.Struct(">QQ")


def link_key(number: int) -> bytes:
    """Return where the link of a write stands."""
    return _LINK.pack(LINKS[0], number)


def last_write(keys: Sequence[bytes], noted: int) -> int:
    """Return the number of the last write of a database that was opened; 0 for a new one.

    Args:
        keys: All links that are there.
        noted: What the note says; 0 if it says nothing.

    Raises:
        StoreCorrupt: Writes are missing, in the middle or at the end.
    """
    numbers = sorted(_number(key) for key in keys)
    if len(numbers) > 1:
        raise StoreCorrupt(f"writes are missing between number {numbers[0]} and {numbers[-1]}")
    last = numbers[0] if numbers else 0
    if last < noted:
        raise StoreCorrupt(f"writes that were flushed are missing: it ends with number {last}, {noted} was flushed")
    return last


def _number(key: bytes) -> int:
    try:
        return int(_LINK.unpack(key)[1])
    except struct.error as exc:
        raise StoreCorrupt("the link of a write") from exc


class Note:
    """The file that says what was flushed."""

    def __init__(self, handle: int) -> None:
        """Take over an open file."""
        self._handle: int | None = handle

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open the note of a database; make it if it is not there.

        Raises:
            OSError: It can't be opened.
        """
        return cls(os.open(directory / NOTE_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))

    def read(self) -> int:
        """Return the number that was noted last; 0 if none was, or it can't be told."""
        assert self._handle is not None, "closed"
        content = os.pread(self._handle, _NOTE.size, 0)
        if len(content) < _NOTE.size:
            return 0
        number, digest = _NOTE.unpack(content)
        return int(number) if digest == _digest(number) else 0

    def write(self, number: int) -> None:
        """Note that all writes up to this one were flushed.

        Raises:
            OSError: It can't be written.
        """
        assert self._handle is not None, "closed"
        os.pwrite(self._handle, _NOTE.pack(number, _digest(number)), 0)

    def close(self) -> None:
        """Close the file; safe to repeat."""
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None


def _digest(number: int) -> int:
    return xxh3_64_intdigest(number.to_bytes(8, "big"))
