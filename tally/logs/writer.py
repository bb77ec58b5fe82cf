"""The thread that writes a backlog to a file, a pipe, a socket or a terminal, and that alone waits for it.

What can't be written is tried again, for a disk gets room and a pipe another reader; meanwhile the backlog fills, and
drops. At the end of the process it is tried once more, and not for long.
"""

import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from tally.logs.backlog import Backlog

RETRY_S: Final = 0.5
CHORES_EVERY_S: Final = 5.0
_BLOCKED_S: Final = 0.005
_POLL_MS: Final = 1000


def no_chores() -> None:
    """Do nothing beside writing."""


class Writer:
    """Writes lines in their order."""

    def __init__(
        self,
        descriptor: int,
        backlog: Backlog,
        *,
        chores: Callable[[], None] = no_chores,
        retry_s: float = RETRY_S,
    ) -> None:
        """Prepare; ``start`` begins.

        Args:
            descriptor: Where to write.
            backlog: What to write.
            chores: Called every few seconds by the thread; must not raise.
            retry_s: After how long to try again what failed.
        """
        self._descriptor = descriptor
        self._backlog = backlog
        self._chores = chores
        self._retry_s = retry_s
        self._hurries = threading.Event()

    def start(self) -> None:
        """Begin to write."""
        # A daemon: a write that hangs must not keep the process from ending.
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def flush(self, within_s: float) -> bool:
        """Wait until all that was logged before is written or given up; return False if that took too long."""
        reached = threading.Event()
        self._backlog.mark(reached)
        self._hurries.set()
        try:
            return reached.wait(within_s)
        finally:
            self._hurries.clear()

    def _run(self) -> None:
        chores_at = time.monotonic() + CHORES_EVERY_S
        while True:
            line = self._backlog.take(CHORES_EVERY_S, tells=not self._hurries.is_set())
            if line is not None:
                self._write(line)
            if time.monotonic() >= chores_at:
                chores_at = time.monotonic() + CHORES_EVERY_S
                self._chores()

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                self._wait_for_room()
            except OSError as exc:
                if self._hurries.is_set():
                    self._backlog.lost()
                    return
                if isinstance(exc, BrokenPipeError):
                    rest = memoryview(line)  # The next reader gets it whole.
                self._hurries.wait(self._retry_s)

    def _wait_for_room(self) -> None:
        time.sleep(_BLOCKED_S)  # There may be room for less than what is to be written at once.
        with suppress(OSError):
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            poll.poll(_POLL_MS)
