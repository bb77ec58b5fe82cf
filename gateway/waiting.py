"""Which connections wait for their client, for how long they may, and which of them has waited longest.

A time begins when the wait begins and is not renewed by what trickles in. All waits of one kind have the same limit, so
the one that began first is over first: nothing is sorted, and one timer serves all connections.

Pure: whoever asks passes the time in.
"""

import math
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Final, Generic, TypeVar

Who = TypeVar("Who")


class Phase(IntEnum):
    """What a connection does."""

    IDLE = 0  # It has been answered, and nothing of a next request is here.
    HEAD = 1  # It has connected and asked nothing yet, or a head is not complete.
    BODY = 2  # A body is not complete.
    ANSWERING = 3  # A request is being answered: the only phase in which it waits for us.
    UNREAD = 4  # Its client does not fetch its answers.
    LINGERING = 5  # It has its last answer; what still comes in is thrown away, so that the answer is not lost.
    ENDED = 6  # It is closed, or about to be.


_MAKE_WAY: Final = (Phase.IDLE, Phase.HEAD, Phase.BODY, Phase.UNREAD)


class Waiting(Generic[Who]):
    """Knows the phase of each connection, and since when it is in it."""

    def __init__(self, limits_s: Mapping[Phase, float]) -> None:
        """Begin with no connection.

        Args:
            limits_s: How long each phase may last, in seconds; one that is not named, for ever.
        """
        self._limits_s = tuple(limits_s.get(phase, math.inf) for phase in Phase)
        self._since: tuple[dict[Who, float], ...] = tuple({} for _ in Phase)

    def move(self, who: Who, before: Phase, after: Phase, now_s: float) -> None:
        """Let ``after`` begin for a connection."""
        self._since[before].pop(who, None)
        self._since[after][who] = now_s

    def forget(self, who: Who, phase: Phase) -> None:
        """Forget a connection that is in ``phase``."""
        self._since[phase].pop(who, None)

    def are_any(self, phase: Phase) -> bool:
        """Tell whether a connection is in ``phase``."""
        return bool(self._since[phase])

    def overdue(self, now_s: float) -> list[tuple[Who, Phase]]:
        """Return the connections that have been in their phase for too long."""
        return [
            (who, phase)
            for phase in Phase
            for who, since_s in _until(self._since[phase], now_s - self._limits_s[phase])
        ]

    def longest(self) -> Who | None:
        """Return the connection that makes way when there are too many; None if all of them wait for us.

        It is one that has its last answer already, or the one that has waited for its client longest.
        """
        for who in self._since[Phase.LINGERING]:
            return who
        first = [next(iter(since.items())) for phase in _MAKE_WAY if (since := self._since[phase])]
        return min(first, key=lambda one: one[1])[0] if first else None


def _until(since: Mapping[Who, float], at_s: float) -> Iterator[tuple[Who, float]]:
    for who, since_s in since.items():
        if since_s > at_s:
            return
        yield who, since_s


class HeldBytes(Generic[Who]):
    """How much of unfinished requests is held, by whom, and who began first. What all hold together has a bound."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._held: dict[Who, int] = {}
        self._total = 0

    def hold(self, who: Who, size: int) -> None:
        """Note how many bytes ``who`` holds now; it keeps its place among the others, unless it holds nothing."""
        before = self._held.get(who, 0)
        self._total += size - before
        if size:
            self._held[who] = size
        elif before:
            del self._held[who]

    def excess(self) -> Who | None:
        """Return who has to give back what it holds: the one that began first; None while the bound holds."""
        return next(iter(self._held)) if self._total > self._bytes_max else None
