"""Events on their way out: events go in, numbered sub-batches come out.

Invariants:
  * at most one sub-batch per (writer, slot) is in doubt, wherever it was sent;
  * a sub-batch is numbered when it is first sent, and never changes after that: a refusal never gives a number back,
    because the first attempt may still arrive (PROTOCOL rule 14);
  * it carries the highest opnum of its slot that was committed as far as its writer was told, lately: before its first
    sub-batch, and after a pause, a writer asks for it (rule 13);
  * an event past its deadline is dropped only before it is numbered.

While one sub-batch is in doubt the next one fills: that is the group commit, and no timer is needed.
No clock, no randomness, no I/O: time and jitter are arguments.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, Generic, NamedTuple, TypeVar

from tally.client.suspects import Suspects
from tally.errors import Overloaded
from tally.event import Event

SUB_BATCH_EVENTS_MAX: Final = 1000
ATTEMPT_S: Final = 2.0
BACKOFF_FIRST_S: Final = 0.05
BACKOFF_MAX_S: Final = 1.0
# Shards forget the writers that heard least; who asks again after so long is forgotten only while thousands come.
HEARD_MAX_S: Final = 60.0
# Nobody waits any more by then.
DOUBT_MAX_S: Final = 3600.0

R = TypeVar("R")
"""What stands for somebody who waits for an event; nothing here looks into it."""


class Waiting(NamedTuple, Generic[R]):
    """An event that was taken in, who waits for it, and until when."""

    event: Event
    deadline: float
    receipt: R


@dataclass(frozen=True, slots=True)
class SubBatch(Generic[R]):
    """What one writer sends to one slot at once; resent as it is until the answer is definite.

    Attributes:
        id: Unique in this process; the answer carries it.
        heard: The highest committed opnum of the slot that the writer was told.
        entries: 1 to ``SUB_BATCH_EVENTS_MAX``.
    """

    id: int
    writer: bytes
    seq: int
    slot: int
    heard: int
    entries: tuple[Waiting[R], ...]


class Question(NamedTuple):
    """Asks for the slot's opnum; resent as it is until it is answered.

    Attributes:
        id: Unique in this process, among sub-batches too; the answer carries it.
    """

    id: int
    slot: int


def backoff_s(refusals: int, jitter: float) -> float:
    """Return how long to wait after the n-th refusal in a row, n from 1; ``jitter`` is in [0, 1)."""
    longest = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(refusals - 1, 10))
    return longest * (0.5 + 0.5 * jitter)


class SlotOutbox(Generic[R]):
    """The events of one slot on their way out."""

    def __init__(
        self,
        slot: int,
        *,
        events_max: int,
        writers: Iterator[bytes],
        ids: Iterator[int],
        suspects: Suspects | None = None,
    ) -> None:
        """Start empty.

        Args:
            slot: Where the events go.
            events_max: How many may wait, not counting those in doubt.
            writers: Gives a writer id that nobody used before, each time it is asked.
            ids: Gives a number unique in this process, each time it is asked.
            suspects: Says which events are sent alone.
        """
        assert events_max >= 1
        self.slot = slot
        self._events_max = events_max
        self._writers = writers
        self._ids = ids
        self._suspects = Suspects() if suspects is None else suspects
        self._writer = next(writers)
        self._last_seq = 0
        self._heard = 0
        self._heard_at: float | None = None  # None: this writer was told nothing yet.
        self._asking: Question | None = None
        self._asked_at = 0.0
        self._waiting: deque[Waiting[R]] = deque()
        self._in_doubt: SubBatch[R] | None = None
        self._doubt_since = 0.0
        self._overdue = 0  # So many entries of the sub-batch in doubt were already given up by their callers.
        self._send_at = 0.0  # Not before then is the sub-batch in doubt, or the question, sent again.
        self._refusals = 0

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is in doubt."""
        return self._in_doubt is None and not self._waiting

    @property
    def events(self) -> int:
        """How many events wait or are in doubt."""
        return len(self._waiting) + (0 if self._in_doubt is None else len(self._in_doubt.entries))

    @property
    def in_doubt(self) -> SubBatch[R] | None:
        """The sub-batch whose fate is not known yet."""
        return self._in_doubt

    @property
    def next_is_suspect(self) -> bool:
        """The first of those that wait is sent alone."""
        return bool(self._suspects) and bool(self._waiting) and self._suspects.alone(self._waiting[0].event)

    def hopeless(self, now: float) -> bool:
        """The sub-batch in doubt is so for an hour: it is to be given up."""
        return self._in_doubt is not None and now - self._doubt_since > DOUBT_MAX_S

    def room(self) -> int:
        """Return how many more events can be added."""
        return self._events_max - len(self._waiting)

    def add(self, event: Event, deadline: float, receipt: R) -> None:
        """Take an event in; raise ``Overloaded`` when ``events_max`` already wait."""
        if len(self._waiting) >= self._events_max:
            raise Overloaded(f"the queue of slot {self.slot}", self._events_max)
        self._waiting.append(Waiting(event, deadline, receipt))

    @property
    def asking(self) -> Question | None:
        """The question that is not answered yet."""
        return self._asking

    def asks_next(self, now: float) -> bool:
        """Tell whether what is sent next is a question: nothing is in doubt, and what was told is too long ago."""
        return self._in_doubt is None and (self._heard_at is None or now - self._heard_at > HEARD_MAX_S)

    def due(self, now: float) -> bool:
        """Tell whether ``next_to_send`` has something."""
        if self._in_doubt is not None:
            return now >= self._send_at
        return bool(self._waiting) and (self._asking is None or now >= self._send_at)

    def next_to_send(self, now: float) -> SubBatch[R] | Question | None:
        """Return what to send now: the doubtful sub-batch or the open question again, or a new one, or None."""
        if not self.due(now):
            return None
        self._send_at = now + ATTEMPT_S
        if self.asks_next(now):
            if self._asking is None:
                self._asking, self._asked_at = Question(next(self._ids), self.slot), now
            return self._asking
        if self._in_doubt is None:
            self._in_doubt = self._number(now)
        return self._in_doubt

    def _number(self, now: float) -> SubBatch[R]:
        self._last_seq += 1
        entries = tuple(self._waiting.popleft() for _ in range(self._next_count()))
        self._overdue = 0
        self._doubt_since = now
        return SubBatch(next(self._ids), self._writer, self._last_seq, self.slot, self._heard, entries)

    def _next_count(self) -> int:
        """Return how many of those that wait make the next sub-batch: all up to the first that is sent alone."""
        most = min(len(self._waiting), SUB_BATCH_EVENTS_MAX)
        if self._suspects:
            for place, entry in enumerate(islice(self._waiting, most)):
                if self._suspects.alone(entry.event):
                    return max(place, 1)
        return most

    def told(self, question_id: int, opnum: int) -> bool:
        """Accept the answer to a question; False if it comes late."""
        if self._asking is None or self._asking.id != question_id:
            return False
        self._asking = None
        self._refusals = 0
        self._hear(opnum, self._asked_at)
        return True

    def _hear(self, opnum: int, since: float) -> None:
        """Note what was told; ``since``: what told it was sent then, so it is not older."""
        self._heard, self._heard_at = max(self._heard, opnum), since

    def settle(self, batch_id: int, opnum: int) -> SubBatch[R] | None:
        """Accept a definite answer; return the sub-batch that it settles, or None if it comes late.

        Args:
            batch_id: Which is answered.
            opnum: How many ops of the slot are committed, as the answer says.
        """
        settled = self._take_settled(batch_id)
        if settled is not None:
            self._hear(opnum, self._doubt_since)
        return settled

    def _take_settled(self, batch_id: int) -> SubBatch[R] | None:
        settled = self._in_doubt
        if settled is None or settled.id != batch_id:
            return None
        self._in_doubt = None
        self._refusals = 0
        return settled

    def hold_off(self, an_id: int, now: float, jitter: float) -> None:
        """Accept that this attempt of a sub-batch or a question failed, in a way that is not definite: pause."""
        open_one = self._in_doubt or self._asking
        if open_one is not None and open_one.id == an_id:
            self._refusals += 1
            self._send_at = now + backoff_s(self._refusals, jitter)

    def send_again_now(self) -> None:
        """Send what is open again at once: its slot has a new owner, or its shard is back."""
        self._send_at = 0.0
        self._refusals = 0  # The new owner may need a moment more, not a second more.

    def give_up(self, batch_id: int) -> SubBatch[R] | None:
        """Accept that nobody will ever tell what became of a sub-batch; go on as a new writer.

        Sent again under the new name it could be counted twice, so its events stay in doubt for good.
        """
        settled = self._take_settled(batch_id)
        if settled is not None:
            self._begin_writer()
        return settled

    def _begin_writer(self) -> None:
        self._writer = next(self._writers)
        self._last_seq = 0
        self._heard, self._heard_at = 0, None

    def drop(self, unwanted: Callable[[Event], bool]) -> list[R]:
        """Drop those of the waiting that are not wanted any more; return their receipts."""
        dropped = [entry.receipt for entry in self._waiting if unwanted(entry.event)]
        if dropped:
            self._waiting = deque(entry for entry in self._waiting if not unwanted(entry.event))
        return dropped

    def expire(self, now: float) -> tuple[list[R], list[R]]:
        """Return the receipts of events that were dropped, and of events in doubt whose callers waited long enough.

        The events in doubt stay in their sub-batch, which is sent until its answer is definite.
        """
        dropped: list[R] = []
        while self._waiting and self._waiting[0].deadline <= now:
            dropped.append(self._waiting.popleft().receipt)
        overdue: list[R] = []
        if self._in_doubt is not None:
            entries = self._in_doubt.entries
            while self._overdue < len(entries) and entries[self._overdue].deadline <= now:
                overdue.append(entries[self._overdue].receipt)
                self._overdue += 1
        return dropped, overdue
