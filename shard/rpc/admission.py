"""Which public calls are taken, and which must go when there are too many. Pure: how they go is the driver's part.

| a call that | is bounded by | when there are more |
|---|---|---|
| has not sent its whole message | ``READING_MAX`` | the one that has been at it for the longest is refused |
| waits for its answer | ``CALLS_MAX`` | the new one is refused, before its message is read |
| gets answers again and again | ``STREAMS_MAX`` | the same |

A message can be known to be unfinished, but not how much of it has come: so each counts as a whole one, and the memory
for all of them is ``READING_MAX`` times the limit of a message. An honest message comes at once with its call, so it is
never the oldest for long, however many others are held back.
"""

from typing import Final, Generic, TypeVar

MESSAGE_BYTES_MAX: Final = 2 * 2**20  # 1000 events with names and keys of full length take 0.4 MiB.
READING_MAX: Final = 16
CALLS_MAX: Final = 1024
STREAMS_MAX: Final = 1024

Call = TypeVar("Call")


class Admission(Generic[Call]):
    """The public calls of one shard. ``Call`` stands for one whose message is awaited, as the driver knows it."""

    def __init__(
        self, *, reading_max: int = READING_MAX, calls_max: int = CALLS_MAX, streams_max: int = STREAMS_MAX
    ) -> None:
        """Begin without any.

        Args:
            reading_max: How many messages may be on their way at once.
            calls_max: How many calls may wait for their one answer.
            streams_max: How many calls with any number of answers may be open.
        """
        self._reading_max = reading_max
        self._max = {False: calls_max, True: streams_max}
        self._reading: dict[Call, None] = {}  # The oldest first.
        self._open = {False: 0, True: 0}

    def has_room(self, *, streams: bool = False) -> bool:
        """Tell whether another call may be served."""
        return self._open[streams] < self._max[streams]

    def begin_reading(self, call: Call) -> Call | None:
        """Note that a call's message is awaited; return which one is to be refused instead, if there are too many."""
        self._reading[call] = None
        if len(self._reading) <= self._reading_max:
            return None
        oldest = next(iter(self._reading))
        del self._reading[oldest]
        return oldest

    def end_reading(self, call: Call) -> None:
        """Note that the message is there, or not awaited any more; safe to repeat."""
        self._reading.pop(call, None)

    def begin_serving(self, *, streams: bool = False) -> None:
        """Count a call; what is in here already is never thrown out."""
        self._open[streams] += 1

    def end_serving(self, *, streams: bool = False) -> None:
        """Note that a call has its answer, or needs none any more."""
        assert self._open[streams] > 0
        self._open[streams] -= 1
