"""The lines that wait to be written: a queue with a bound, which drops and counts.

Invariants:
  * ``put`` never waits for whoever takes, and never raises;
  * once full, it takes nothing until a quarter is free again; then, first of all, the line that tells how many were
    dropped, in the place where they would have been;
  * ``put`` may be called from within ``put``: the garbage collector may run there, and what it finds may log.
"""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event, RLock


class Backlog:
    """A queue of lines with many writers, and one thread that takes."""

    def __init__(self, *, lines_max: int, bytes_max: int, tell: Callable[[int], bytes]) -> None:
        """Prepare.

        Args:
            lines_max: How many lines may wait.
            bytes_max: How many bytes they may have together.
            tell: Makes the line that says how many were dropped; must not raise.
        """
        self._lines_max = lines_max
        self._bytes_max = bytes_max
        self._tell = tell
        self._lines: SimpleQueue[bytes | Event] = SimpleQueue()  # Its put may be called from within its put.
        self._lock = RLock()
        self._bytes_put = 0
        self._bytes_taken = 0
        self._is_closed = False
        self._untold = 0
        self.dropped = 0

    def put(self, line: bytes) -> None:
        """Add a line, or drop and count it."""
        with self._lock:
            if self._is_closed and self._fits(len(line), 3 / 4):
                self._reopen()
            if self._is_closed or not self._fits(len(line), 1):
                self._is_closed = True
                self._untold += 1
                self.dropped += 1
            else:
                self._add(line)

    def lost(self) -> None:
        """Count a line that was taken, and could not be written."""
        with self._lock:
            self._untold += 1
            self.dropped += 1
            self._is_closed = True

    def mark(self, reached: Event) -> None:
        """Let ``reached`` be set when all that is here now has been taken."""
        self._lines.put(reached)

    def take(self, wait_s: float = 0.0, *, tells: bool = True) -> bytes | None:
        """Return the oldest line; None if there is none for ``wait_s``. Only for the one thread that takes.

        Args:
            wait_s: How long to wait for one.
            tells: Whether to say, when nothing else waits, how many were dropped.
        """
        while True:
            with self._lock:
                if tells and self._is_closed and self._lines.empty():
                    self._reopen()
            try:
                taken = self._lines.get(timeout=wait_s) if wait_s > 0 else self._lines.get_nowait()
            except Empty:
                return None
            if isinstance(taken, bytes):
                self._bytes_taken += len(taken)
                return taken
            taken.set()

    def _fits(self, size: int, part: float) -> bool:
        waiting = self._bytes_put - self._bytes_taken
        return self._lines.qsize() < self._lines_max * part and waiting + size <= self._bytes_max * part

    def _reopen(self) -> None:
        self._is_closed = False
        untold, self._untold = self._untold, 0
        self._add(self._tell(untold))

    def _add(self, line: bytes) -> None:
        self._bytes_put += len(line)
        self._lines.put(line)
