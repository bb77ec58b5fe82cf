"""Time, chance and totals of one run. Equal seeds give equal runs."""

from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any


class Broken(Exception):
    """A promise was broken."""


class World:
    """A queue of what is to happen."""

    def __init__(self, seed: int, tell: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.chance = self.random.random
        self.now = 0.0
        self.totals: Counter[str] = Counter()
        self.tell = tell
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def after(self, delay: float, act: Callable[..., None], *args: Any) -> None:
        """Let something happen later."""
        self.at(self.now + delay, act, *args)

    def at(self, time: float, act: Callable[..., None], *args: Any) -> None:
        """Let something happen at a time; of two at the same time the one that was asked for first."""
        self._count = count = self._count + 1
        heappush(self._queue, (time, count, act, args))

    def run(self, until: float) -> None:
        """Let everything happen that is due before ``until``."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.now, _, act, args = heappop(queue)
            act(*args)
        self.now = until

    def trace(self, text: str) -> None:
        """Tell what happens; callers ask ``tell`` first where that is cheaper."""
        if self.tell is not None:
            self.tell(f"{self.now:8.3f} {text}")

    @property
    def steps(self) -> int:
        """How much was asked to happen."""
        return self._count
