"""Readers of the same hour share reads: one runs, and all who arrive meanwhile share the next one.

Invariants:
  * at most one read per hour runs;
  * a waiter is answered by a read of which nothing was sent before the waiter arrived: to join one that was sent could
    miss a write that was already acknowledged.

No clock, no I/O: time is an argument.
"""

from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from tally.errors import Overloaded

R = TypeVar("R")
"""What stands for somebody who waits for an hour; nothing here looks into it."""


class Reader(NamedTuple, Generic[R]):
    """Who waits for an hour, and until when."""

    deadline: float
    receipt: R


@dataclass(slots=True)
class _Hour(Generic[R]):
    running: list[Reader[R]]
    is_sent: bool = False
    waiting: list[Reader[R]] = field(default_factory=list)


class Expired(NamedTuple, Generic[R]):
    """What the passing of time did.

    Attributes:
        receipts: Of the readers whose deadline has passed.
        ended: Hours whose running read nobody waits for any more, and nobody waits for a next one.
        restarted: Hours whose running read nobody waits for; one for later readers is to begin instead.
    """

    receipts: list[R]
    ended: list[int]
    restarted: list[int]


class Coalescer(Generic[R]):
    """Who waits for which hour."""

    def __init__(self, *, readers_max: int) -> None:
        assert readers_max >= 1
        self._readers_max = readers_max
        self._readers = 0
        self._hours: dict[int, _Hour[R]] = {}

    def __len__(self) -> int:
        return self._readers

    def join(self, hour: int, deadline: float, receipt: R) -> bool:
        """Let somebody wait for ``hour``; return whether a read must begin now.

        Raises:
            Overloaded: ``readers_max`` readers already wait.
        """
        if self._readers >= self._readers_max:
            raise Overloaded("the queue of readers", self._readers_max)
        self._readers += 1
        reader = Reader(deadline, receipt)
        at_work = self._hours.get(hour)
        if at_work is None:
            self._hours[hour] = _Hour([reader])
            return True
        (at_work.waiting if at_work.is_sent else at_work.running).append(reader)
        return False

    def is_sent(self, hour: int) -> bool:
        """Tell whether a part of the running read of ``hour`` is on its way."""
        return self._hours[hour].is_sent

    def sent(self, hour: int) -> None:
        """Note that a part of the running read of ``hour`` is on its way."""
        self._hours[hour].is_sent = True

    def finish(self, hour: int) -> tuple[list[R], bool]:
        """End the running read of ``hour``: return whom it answers, and whether the next one must begin now."""
        at_work = self._hours[hour]
        answered = [reader.receipt for reader in at_work.running]
        self._readers -= len(answered)
        return answered, self._next(hour, at_work)

    def _next(self, hour: int, at_work: _Hour[R]) -> bool:
        if not at_work.waiting:
            del self._hours[hour]
            return False
        at_work.running, at_work.waiting, at_work.is_sent = at_work.waiting, [], False
        return True

    def expire(self, now: float) -> Expired[R]:
        """Drop the readers whose deadline has passed."""
        expired: Expired[R] = Expired([], [], [])
        for hour, at_work in list(self._hours.items()):
            for readers in (at_work.running, at_work.waiting):
                late = [reader.receipt for reader in readers if reader.deadline <= now]
                if late:
                    expired.receipts.extend(late)
                    readers[:] = [reader for reader in readers if reader.deadline > now]
            if not at_work.running:
                (expired.restarted if self._next(hour, at_work) else expired.ended).append(hour)
        self._readers -= len(expired.receipts)
        return expired
