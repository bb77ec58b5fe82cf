"""One look for all who ask at about the same time: strangers ask as often as they like, and cost no more than one.

Invariants:
  * at most one look is under way;
  * a look answers those who ask while it is under way, and until ``KEEP_S`` after it began;
  * one that failed or was cancelled answers only those who wait for it already: the next to ask begins another;
  * who stops waiting takes nothing from the others.

No clock: time is an argument. What is looked at is the caller's.
"""

import asyncio
from collections.abc import Callable, Coroutine
from enum import Enum, auto
from typing import Any, Final

from tally.tasks import awaited

KEEP_S: Final = 0.5


class Stage(Enum):
    """How far a look has come."""

    UNDER_WAY = auto()
    FOUND = auto()
    FAILED = auto()


def may_share(stage: Stage, begun: float, now: float) -> bool:
    """Tell whether who asks at ``now`` gets what the look that began at ``begun`` finds; else another must begin."""
    return stage is Stage.UNDER_WAY or (stage is Stage.FOUND and now < begun + KEEP_S)


class SharedLook:
    """Drives the looks. Belongs to one event loop."""

    def __init__(self, look: Callable[[], Coroutine[Any, Any, list[str]]]) -> None:
        """Prepare; ``look`` makes one look, which ends by itself."""
        self._look = look
        self._newest: asyncio.Task[list[str]] | None = None
        self._begun = 0.0

    async def ask(self, now: float) -> list[str]:
        """Return what a look finds that is shared with others; raise what it raises."""
        if self._newest is None or not may_share(_stage(self._newest), self._begun, now):
            self._newest, self._begun = awaited(self._look(), name="shared look"), now
        return await asyncio.shield(self._newest)

    async def close(self) -> None:
        """Wait until the look under way has ended; whoever waits for it is answered."""
        if self._newest is not None:
            await asyncio.wait({self._newest})


def _stage(look: "asyncio.Task[list[str]]") -> Stage:
    if not look.done():
        return Stage.UNDER_WAY
    return Stage.FAILED if look.cancelled() or look.exception() else Stage.FOUND
