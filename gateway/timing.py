"""Two things that depend on time: an alarm, and a line in the log that must not fill it."""

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls back once after a time, unless it is stopped before.

    Stopped, it knows nothing of whom it was to call: so that a connection which has one is freed when it is closed, not
    when the garbage collector comes by.
    """

    __slots__ = ("_after_s", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, after_s: float) -> None:
        self._loop = loop
        self._after_s = after_s
        self._timer: asyncio.TimerHandle | None = None

    def start(self, callback: Callable[[], None]) -> None:
        """Let the time begin, if it is not running."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._after_s, callback)

    def stop(self) -> None:
        """Do not call back, until started again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class AtMostOncePer:
    """Lets one through per period, and counts those it did not."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._closed_until = float("-inf")
        self._held_back = 0

    def passes(self, now_s: float) -> int:
        """Return how many came since the last that passed, with this one; 0 if this one does not pass."""
        self._held_back += 1
        if now_s < self._closed_until:
            return 0
        self._closed_until = now_s + self._period_s
        passed, self._held_back = self._held_back, 0
        return passed
