"""What slots that do not answer hold of the queue: half of it together, so that the other half is left for the others.

Without it one shard that is away would fill the queue of all: each event for it waits until its deadline.

Rules:
  * a slot is stalled when it was busy for more than ``STALLED_S`` and nothing of it was answered. One that counts, but
    more slowly than events come, is not;
  * it is so no more with the first definite answer, or when it holds nothing;
  * what it held when it stalled is kept, also beyond the share; only more than that is refused.

Nothing here is called for an event while no slot is stalled. No clock, no I/O: time is an argument.
"""

from collections.abc import Sequence
from typing import Final

from tally.errors import Overloaded

STALLED_S: Final = 0.5  # At 20,000 events a second for them that is all of the default queue.


class Stalls:
    """Which slots are stalled, and how many events they hold; false if there are none, which is nearly always.

    Attributes:
        events: How many events the stalled slots hold together, waiting or in doubt.
    """

    def __init__(self, queue_events: int) -> None:
        """Start with none; they may hold half of ``queue_events``, rounded up."""
        self.events = 0
        self._events_max: Final = (queue_events + 1) // 2
        self._busy_since: dict[int, float] = {}  # Since when a slot was seen busy, without an answer in between.
        self._held: dict[int, int] = {}  # Stalled slot -> events that it holds.

    def __bool__(self) -> bool:
        return bool(self._held)

    def check(self, slots: Sequence[int]) -> None:
        """Raise ``Overloaded`` if there is no room for events of these slots, one for each time that it is named."""
        more = sum(slot in self._held for slot in slots)
        if more and self.events + more > self._events_max:
            raise Overloaded("the queue of slots that do not answer", self._events_max)

    def joined(self, slots: Sequence[int]) -> None:
        """Accept one event for each time that a slot is named."""
        for slot in slots:
            if slot in self._held:
                self._held[slot] += 1
                self.events += 1

    def left(self, slot: int, events: int) -> None:
        """Accept that a slot does not hold these any more."""
        if slot in self._held:
            self._held[slot] -= events
            self.events -= events
            assert self._held[slot] >= 0

    def busy(self, slot: int, now: float, events: int) -> None:
        """Accept that a slot is busy still; ``events``: what it holds."""
        since = self._busy_since.setdefault(slot, now)
        if now - since > STALLED_S and slot not in self._held:
            self._held[slot] = events
            self.events += events

    def over(self, slot: int) -> None:
        """Accept that a slot was answered, or holds nothing."""
        self._busy_since.pop(slot, None)
        if self._held:
            self.events -= self._held.pop(slot, 0)
