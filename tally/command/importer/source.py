"""The rows of a file or a pipe, read without ever holding up the event loop."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from itertools import chain
from typing import Final, NamedTuple

from tally.command.importer.rows import BadRow, Format, Row, RowParser
from tally.command.importer.unpack import Damaged, Unpacker

READ_BYTES: Final = 16_384


class Batch(NamedTuple):
    """Some rows in a row.

    Attributes:
        position: How many bytes of the file were read so far, packed or not.
    """

    position: int
    rows: list[Row | BadRow]


async def read_rows(descriptor: int, form: Format) -> AsyncIterator[Batch]:
    """Read an open file to its end, a few thousand rows at a time.

    A file that can't be read to its end gives a last ``BadRow``: what came before it is good.

    Raises:
        BadHeader: It is CSV whose first line is no header. Comes before the first batch.
    """
    unpacker, parser, position = Unpacker(), RowParser(form), 0
    try:
        while chunk := await _read(descriptor):
            position += len(chunk)
            for piece in unpacker.feed(chunk):
                yield Batch(position, list(parser.feed(piece)))
        last = [list(parser.feed(piece)) for piece in unpacker.end()]
        yield Batch(position, list(chain(*last, parser.end())))
    except (Damaged, OSError) as exc:
        yield Batch(position, [BadRow(parser.line, str(exc))])


async def _read(descriptor: int) -> bytes:
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
            chunk, error = os.read(descriptor, READ_BYTES), None
        except OSError as exc:
            chunk, error = b"", exc
        loop.call_soon_threadsafe(settle, chunk, error)

    # A daemon thread and no executor: Ctrl-C must end the command while a pipe has nothing to give.
    threading.Thread(target=read, name="read", daemon=True).start()
    return await done
