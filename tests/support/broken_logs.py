"""Places for a log that can't be written, or that nobody reads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Final

CLOSED_STDERR: Final = ("sh", "-c", 'exec "$@" 2>&-', "sh")
"""Before a command: it begins with stderr closed."""


class Broken(StrEnum):
    """What is wrong with a log."""

    GONE = "reader is gone"
    UNREAD = "nobody reads"
    FULL = "disk is full"
    CLOSED = "closed"


class BrokenLog:
    """A place for a log, at ``path``."""

    def __init__(self, path: Path, how: Broken) -> None:
        self.path = path
        self._how = how
        self._ends: list[int] = []
        if how in {Broken.FULL, Broken.CLOSED}:
            self.path = Path("/dev/full")
            return
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._ends.append(reader)
        if how is Broken.UNREAD:
            self._ends.append(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            fill(self._ends[-1])

    def lose_reader(self) -> None:
        """Let the reader go, if that is what breaks this log."""
        if self._how is Broken.GONE:
            self.close()

    def close(self) -> None:
        """Close what this process has open of it; safe to repeat."""
        while self._ends:
            os.close(self._ends.pop())


@contextmanager
def broken_logs(directory: Path, names: list[str], how: Broken) -> Iterator[dict[str, BrokenLog]]:
    """Give a broken log for each name."""
    made = {name: BrokenLog(directory / f"{name}.fifo", how) for name in names}
    try:
        yield made
    finally:
        for log in made.values():
            log.close()


def fill(writer: int) -> None:
    """Write to a pipe that does not block, until it takes no more."""
    for size in (65536, 1):
        with suppress(BlockingIOError):
            while True:
                os.write(writer, b"." * size)
