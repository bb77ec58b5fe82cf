"""For how long a slot was away, as a probe saw it. Pure; all times are of the monotonic clock, in seconds."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple


class Success(NamedTuple):
    """A request that was answered as it should be."""

    sent: float
    done: float


def unavailable_s(successes: Sequence[Success], *, begin: float, end: float) -> float:
    """Return the longest time without a success that ended after ``begin``, or had not ended at ``end``."""
    last_sent = max((one.sent for one in successes if one.done <= begin), default=begin)
    longest = 0.0
    for one in sorted(successes, key=lambda success: success.done):
        if one.done > begin:
            longest = max(longest, one.done - last_sent)
            last_sent = max(last_sent, one.sent)
    return max(longest, end - last_sent)


def unavailable_within_s(successes: Sequence[Success], *, begin: float, end: float) -> float:
    """Return the same of what came between two times only: of a longer outage, its part of them.

    ``successes`` are in the order in which they were done; only those between the two times are looked at.
    """
    first, last = (bisect_right(successes, time, key=lambda one: one.done) for time in (begin, end))
    return unavailable_s(successes[first:last], begin=begin, end=end)
