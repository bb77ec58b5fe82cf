"""What is imported: a file or a pipe, read without ever holding up the event loop, and what its lines are known by.

A file is read twice: once for the digest that makes its lines known again, once for its rows. The second time it is
hashed as well, so that a file that changes meanwhile does not pass for the one whose digest was taken.
"""

import asyncio
import os
import secrets
import stat
import threading
from collections.abc import AsyncIterator, Callable
from itertools import chain
from typing import Final, NamedTuple

from xxhash import xxh3_128

from tally.command.importer.keys import RANDOM_BYTES, Again, key_of_line
from tally.command.importer.rows import BadRow, Format, Row, RowParser
from tally.command.importer.unpack import Damaged, Unpacker

READ_BYTES: Final = 16_384
HASHED_BYTES: Final = 1_048_576  # Read at once where nothing but the digest is wanted.
_STDIN: Final = 0


class Batch(NamedTuple):
    """Some rows in a row.

    Attributes:
        position: How many bytes of the file were read so far, packed or not.
    """

    position: int
    rows: list[Row | BadRow]


class Source:
    """A file descriptor to read rows from, closed at the end unless it is stdin.

    Attributes:
        prefix: What its lines are known by; known when the first batch is there.
    """

    def __init__(self, name: str, form: Format = Format.AUTO, prefix: str | None = None) -> None:
        """Open it.

        Args:
            name: A path, or "-" for stdin.
            form: How its rows are written.
            prefix: What its lines are known by, if the caller says it.
        """
        self._descriptor = _STDIN if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        self._form = form
        # Of stdin nobody knows whether it is at its beginning, and who else reads on from where it ends.
        self._is_read_twice = prefix is None and name != "-" and self.size is not None
        self._is_known_again = prefix is not None or self._is_read_twice
        self._changed = False
        self._damaged = False
        self.prefix = prefix or secrets.token_hex(RANDOM_BYTES)

    @property
    def size(self) -> int | None:
        """How many bytes there are to read, if that is known; a pipe does not tell."""
        status = os.fstat(self._descriptor)
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def close(self) -> None:
        """Close it."""
        if self._descriptor != _STDIN:
            os.close(self._descriptor)

    def key(self, line: int) -> str:
        """Return the idempotency key of a line of the batches so far."""
        return key_of_line(self.prefix, line)

    def again(self) -> Again:
        """Return what a later run has to know of this one; at the end, or when it was stopped."""
        return Again(prefix=self.prefix, is_known=self._is_known_again, changed=self._changed, damaged=self._damaged)

    async def batches(self, reading: Callable[[int], None]) -> AsyncIterator[Batch]:
        """Read it to its end, a few thousand rows at a time; ``reading`` hears how far a first reading is, in bytes.

        A file that can't be read to its end gives a last ``BadRow``: what came before it is good.

        Raises:
            BadHeader: It is CSV whose first line is no header. Comes before the first batch.
        """
        unpacker, parser, position = Unpacker(), RowParser(self._form), 0
        try:
            length = await self._take_digest(reading) if self._is_read_twice else None
            async for chunk in self._chunks(length):
                position += len(chunk)
                for piece in unpacker.feed(chunk):
                    yield Batch(position, list(parser.feed(piece)))
            last = [list(parser.feed(piece)) for piece in unpacker.end()]
            # In a file that grew, the last line may have been written only in part.
            yield Batch(position, list(chain(*last, () if self._changed else parser.end())))
        except (Damaged, OSError) as exc:
            self._damaged = True
            yield Batch(position, [BadRow(parser.line, str(exc))])

    async def _take_digest(self, reading: Callable[[int], None]) -> int:
        """Make the digest of the bytes the prefix; return how many there are."""
        digest, length = xxh3_128(), 0
        while chunk := await _read(self._descriptor, HASHED_BYTES):
            digest.update(chunk)
            length += len(chunk)
            reading(length)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self.prefix = digest.hexdigest()
        return length

    async def _chunks(self, length: int | None) -> AsyncIterator[bytes]:
        """Give the bytes as they come: to the end, or if ``length`` is known, so many, and find out what changed."""
        if length is None:
            while chunk := await _read(self._descriptor, READ_BYTES):
                yield chunk
            return
        digest, rest = xxh3_128(), length
        while chunk := await _read(self._descriptor, min(READ_BYTES, rest)):
            digest.update(chunk)
            rest -= len(chunk)
            yield chunk
        has_grown = bool(await _read(self._descriptor, 1))
        self._changed = has_grown or digest.hexdigest() != self.prefix


async def _read(descriptor: int, size: int) -> bytes:
    """Read what is there, waiting for at least one byte; empty at the end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()

    def settle(chunk: bytes, error: OSError | None) -> None:
        if done.cancelled():
            return
        if error:
            done.set_exception(error)
        else:
            done.set_result(chunk)

    def read() -> None:
        try:
            chunk, error = os.read(descriptor, size), None
        except OSError as exc:
            chunk, error = b"", exc
        loop.call_soon_threadsafe(settle, chunk, error)

    # A daemon thread and no executor: Ctrl-C must end the command while a pipe has nothing to give.
    threading.Thread(target=read, name="read", daemon=True).start()
    return await done
