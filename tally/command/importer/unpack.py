"""Plain bytes out of bytes that may be gzip, recognised by how they begin. Pure: bytes in, bytes out, as they come."""

import zlib
from collections.abc import Iterator
from typing import Final

from tally.errors import TallyError

PIECE_BYTES_MAX: Final = 65_536
_MAGIC: Final = b"\x1f\x8b"
_GZIP: Final = 31  # The window size that means "with the header and the trailer of gzip".


class Damaged(TallyError):
    """The gzip data is cut off or damaged; what came before is good."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the gzip data is damaged from here on: {self.reason}"


class Unpacker:
    """Unpacks gzip, of any number of members, in pieces of bounded size; passes on anything else."""

    def __init__(self) -> None:
        self._start = b""
        self._known = False
        self._member = zlib.decompressobj(_GZIP)
        self._packed = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Take bytes in and give what they unpack to.

        Raises:
            Damaged: They are no gzip, though they began like it.
        """
        if not self._known:
            self._start += chunk
            if len(self._start) < len(_MAGIC):
                return
            chunk, self._start = self._start, b""
            self._known, self._packed = True, chunk.startswith(_MAGIC)
        if not self._packed:
            yield chunk
            return
        while chunk:
            if self._member.eof:
                chunk = chunk.lstrip(b"\0")  # Padding between members is allowed.
                if not chunk:
                    return
                self._member = zlib.decompressobj(_GZIP)
            try:
                piece = self._member.decompress(chunk, PIECE_BYTES_MAX)
            except zlib.error as exc:
                raise Damaged(str(exc)) from exc
            if piece:
                yield piece
            chunk = self._member.unconsumed_tail or self._member.unused_data

    def end(self) -> Iterator[bytes]:
        """Give what is left.

        Raises:
            Damaged: The gzip data stops in the middle.
        """
        if self._start:
            yield self._start
        if self._packed and not self._member.eof:
            raise Damaged("it ends too early")
