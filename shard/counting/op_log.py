"""The last ops of a copy, kept for copies that missed them: one op as it is stored. Pure."""

import struct
from typing import Final, NamedTuple

from tally.cluster.op_name import NOTHING, OpName
from tally.errors import StoreCorrupt

_HEADER: Final = struct.Struct(">QQ16sQQ16sB")
_NO_DIGEST: Final = OpName(digest=bytes(16))


class LogEntry(NamedTuple):
    """One op of the log.

    Attributes:
        name, previous: Its own, and that of the op that it follows.
        body: A serialized ``OpBody``.
    """

    name: OpName
    previous: OpName
    body: bytes

    def encode(self) -> bytes:
        """Return the stored bytes."""
        assert len(self.name.digest) == 16
        # The last number tells NOTHING, which has no digest, from a digest of 16 zeros.
        return _HEADER.pack(*self.name, *self.previous, bool(self.previous.digest)) + self.body

    @classmethod
    def decode(cls, value: bytes) -> "LogEntry":
        """Read what ``encode`` wrote.

        Raises:
            StoreCorrupt: It is something else.
        """
        try:
            epoch, opnum, digest, *of_previous, has_previous = _HEADER.unpack_from(value)
        except struct.error as exc:
            raise StoreCorrupt("an op of the log") from exc
        previous = OpName(*of_previous)
        if has_previous > 1 or (not has_previous and previous != _NO_DIGEST):
            raise StoreCorrupt("an op of the log")
        return cls(OpName(epoch, opnum, digest), previous if has_previous else NOTHING, value[_HEADER.size :])
