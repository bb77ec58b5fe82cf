"""What a shard's own client had its own process count, kept in a file for the process after it.

Every shard routes like a gateway. If the event that ends it came through itself, what it knew of that event ends too,
and it would begin anew with each start. So what is about to be counted here is noted first, and struck out when it is
answered; what is left over when the process starts is what the one before it may have died of.

Nothing is flushed: the file outlives the process, and if the machine goes too, no event was to blame.
"""

import os
import struct
from pathlib import Path
from typing import Final, NamedTuple

import structlog

log = structlog.get_logger()

FILE_BYTES_MAX: Final = 2**22
NAME_BYTES: Final = 16

_HEAD: Final = struct.Struct(">QBH")  # Id of the sub-batch, what is known of it, names that follow; none: struck out.
_LAST: Final = 1
_SUSPECTED: Final = 2


class LastWord(NamedTuple):
    """A sub-batch that was in doubt here.

    Attributes:
        names: Of its events.
        last: One death more, and it was to be given up.
        suspected: It was one event, and a suspect.
    """

    names: tuple[bytes, ...]
    last: bool
    suspected: bool


def decode(data: bytes) -> list[LastWord]:
    """Return what was not struck out; what breaks off at the end was not being counted yet."""
    found: dict[int, LastWord] = {}
    at = 0
    while at + _HEAD.size <= len(data):
        batch, known, count = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        end = at + count * NAME_BYTES
        if end > len(data):
            break
        found.pop(batch, None)
        if count:
            names = tuple(data[place : place + NAME_BYTES] for place in range(at, end, NAME_BYTES))
            found[batch] = LastWord(names, bool(known & _LAST), bool(known & _SUSPECTED))
        at = end
    return list(found.values())


def encode(batch: int, word: LastWord) -> bytes:
    """Return the entry of a sub-batch."""
    known = (_LAST if word.last else 0) | (_SUSPECTED if word.suspected else 0)
    return _HEAD.pack(batch, known, len(word.names)) + b"".join(word.names)


class LastWords:
    """The file, of one process at a time. A disk that fails is no reason to count nothing.

    Attributes:
        found: What the process before this one may have died of.
    """

    def __init__(self, path: Path) -> None:
        """Take over the file, or make it."""
        self.found: list[LastWord] = []
        self._open: dict[int, bytes] = {}
        self._bytes = 0
        self._closed = False
        try:
            self.found = decode(path.read_bytes()) if path.exists() else []
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            log.warning("last_words_not_kept", path=str(path), reason=str(exc))
            self._closed = True

    def note(self, batch: int, word: LastWord) -> None:
        """Note what is about to be counted; a sub-batch that is noted already is noted anew."""
        entry = encode(batch, word)
        if self._open.get(batch) != entry:
            self._open[batch] = entry
            self._write(entry)

    def strike_out(self, batch: int) -> None:
        """Accept that a sub-batch is not in doubt any more."""
        if self._open.pop(batch, None) is not None:
            self._write(_HEAD.pack(batch, 0, 0))

    def close(self) -> None:
        """End in order: nothing that was in doubt is to blame."""
        self._open.clear()
        self._write(b"")
        if not self._closed:
            os.close(self._file)
            self._closed = True

    def _write(self, entry: bytes) -> None:
        if self._closed:
            return
        try:
            if not self._open or self._bytes + len(entry) > FILE_BYTES_MAX:
                os.ftruncate(self._file, 0)
                entry = b"".join(self._open.values())
                self._bytes = 0
            os.write(self._file, entry)
            self._bytes += len(entry)
        except OSError as exc:
            log.warning("last_words_not_kept", reason=str(exc))
            self._closed = True
