"""Two things that depend on time: whose turn it is, and a line in the log that must not fill it."""

import asyncio
from collections import deque
from collections.abc import Callable


class Turns:
    """Calls back one after the other, a few at a time; in between the event loop looks for what else there is."""

    def __init__(self, loop: asyncio.AbstractEventLoop, at_once: int) -> None:
        """Begin with nobody.

        Args:
            loop: Calls.
            at_once: How many have their turn in one go.
        """
        self._loop = loop
        self._at_once = at_once
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_called = False

    def add(self, callback: Callable[[], None]) -> None:
        """Let somebody have a turn soon, after all that wait already."""
        self._waiting.append(callback)
        self._call()

    def _call(self) -> None:
        if self._waiting and not self._is_called:
            self._is_called = True
            self._loop.call_soon(self._give)

    def _give(self) -> None:
        self._is_called = False
        try:
            for _ in range(min(self._at_once, len(self._waiting))):
                self._waiting.popleft()()
        finally:  # Whatever one of them does, the others have their turn.
            self._call()


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
