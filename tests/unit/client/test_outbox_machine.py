"""An outbox against a small model of a shard, with messages that are lost, repeated, late and out of order."""

import itertools
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tally.client.outbox import Question, SlotOutbox, SubBatch
from tally.errors import Overloaded
from tests.support.events import click

OK, NOT_READY, OUT_OF_ORDER, FORGOTTEN = "ok", "not ready", "out of order", "forgotten"
ROWS = 2
"""So many writers the model of a shard knows; each that comes makes it forget one."""


class ModelShard:
    """Counts by the rules: a number follows the last one, or it was counted before, or it is refused."""

    def __init__(self) -> None:
        self.counted: Counter[int] = Counter()
        self.opnum = 0
        self._floor = 0
        self._rows: dict[bytes, tuple[int, int]] = {}  # Writer -> number of its last sub-batch, and what it had heard.

    def take(self, batch: SubBatch[int]) -> str:
        """Return the answer."""
        last, _ = self._rows.get(batch.writer, (None, 0))
        if last is not None and batch.seq <= last:
            return OK
        if last is not None and batch.seq != last + 1:
            return OUT_OF_ORDER
        if batch.heard > self.opnum or (last is None and batch.heard < self._floor):
            return FORGOTTEN
        self._note(batch.writer, batch.seq, batch.heard)
        self.counted.update(entry.receipt for entry in batch.entries)
        return OK

    def _note(self, writer: bytes, seq: int, heard: int) -> None:
        if writer not in self._rows and len(self._rows) == ROWS:
            forgotten = min(self._rows, key=lambda known: self._rows[known][1])
            self._floor = max(self._floor, self._rows.pop(forgotten)[1] + 1)
        self._rows[writer] = (seq, heard)
        self.opnum += 1

    def others_write(self, count: int) -> None:
        """Let so many other writers come, which are never seen again."""
        for number in range(count):
            self._note(f"other {self.opnum} {number}".encode(), 1, self.opnum)

    def lose_everything(self) -> None:
        """Be what is left after data was given up."""
        self.counted.clear()
        self._rows.clear()
        self._floor = self.opnum = 0


class OutboxMachine(RuleBasedStateMachine):
    """Events are numbers; so are their receipts."""

    def __init__(self) -> None:
        super().__init__()
        writers = (number.to_bytes(16, "big") for number in itertools.count(1))
        self.outbox: SlotOutbox[int] = SlotOutbox(0, events_max=6, writers=writers, ids=itertools.count(1))
        self.shard = ModelShard()
        self.now = 0.0
        self.events = itertools.count(1)
        self.sent: dict[int, SubBatch[int]] = {}
        self.on_the_way: list[SubBatch[int] | Question] = []
        self.answers: list[tuple[int, str, int]] = []
        self.in_doubt: set[int] = set()
        self.added: list[int] = []
        self.dropped: set[int] = set()
        self.overdue: Counter[int] = Counter()
        self.settled: set[int] = set()

    @rule(patience=st.floats(0.01, 5.0))
    def add(self, patience: float) -> None:
        event = next(self.events)
        try:
            self.outbox.add(click("ann"), self.now + patience, event)
        except Overloaded:
            assert self.outbox.room() == 0
        else:
            self.added.append(event)

    @rule()
    def send(self) -> None:
        due = self.outbox.due(self.now)
        batch = self.outbox.next_to_send(self.now)
        assert due == (batch is not None)
        if isinstance(batch, Question):
            assert not self.in_doubt, "a question while a sub-batch is in doubt"
            self.on_the_way.append(batch)
        elif batch is not None:
            assert self.in_doubt <= {batch.id}, "two sub-batches in doubt"
            assert self.sent.setdefault(batch.id, batch) == batch, "a sub-batch changed"
            self.in_doubt = {batch.id}
            self.on_the_way.append(batch)

    @precondition(lambda self: self.on_the_way)
    @rule(data=st.data(), is_ready=st.booleans(), arrives_again=st.booleans())
    def message_arrives(self, data: st.DataObject, is_ready: bool, arrives_again: bool) -> None:
        place = data.draw(st.integers(0, len(self.on_the_way) - 1))
        batch = self.on_the_way[place] if arrives_again else self.on_the_way.pop(place)
        self.answers.append(self._answer(batch) if is_ready else (batch.id, NOT_READY, 0))

    def _answer(self, batch: SubBatch[int] | Question) -> tuple[int, str, int]:
        outcome = OK if isinstance(batch, Question) else self.shard.take(batch)
        return batch.id, outcome, self.shard.opnum

    @precondition(lambda self: self.answers)
    @rule(data=st.data(), arrives_again=st.booleans(), jitter=st.floats(0.0, 1.0, exclude_max=True))
    def answer_arrives(self, data: st.DataObject, arrives_again: bool, jitter: float) -> None:
        place = data.draw(st.integers(0, len(self.answers) - 1))
        an_id, answer, opnum = self.answers[place] if arrives_again else self.answers.pop(place)
        if answer == NOT_READY:
            self.outbox.hold_off(an_id, self.now, jitter)
            return
        if self.outbox.told(an_id, opnum):
            assert an_id not in self.sent
            return
        batch = self.outbox.settle(an_id, opnum) if answer == OK else self.outbox.give_up(an_id)
        assert (batch is not None) == (an_id in self.in_doubt), "a late answer settles nothing"
        self.in_doubt.discard(an_id)
        if batch is not None and answer == OK:
            self.settled.update(entry.receipt for entry in batch.entries)

    @rule(data=st.data())
    def something_is_lost(self, data: st.DataObject) -> None:
        for lost in (self.on_the_way, self.answers):
            if lost and data.draw(st.booleans()):
                del lost[data.draw(st.integers(0, len(lost) - 1))]

    @rule(seconds=st.floats(0.0, 4.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        dropped, overdue = self.outbox.expire(self.now)
        self.dropped.update(dropped)
        self.overdue.update(overdue)

    @rule(count=st.integers(1, 2 * ROWS))
    def other_writers_come(self, count: int) -> None:
        self.shard.others_write(count)

    @rule()
    def map_changes(self) -> None:
        self.outbox.send_again_now()

    @precondition(lambda self: len(self.settled) > 3)
    @rule()
    def data_is_given_up(self) -> None:
        self.shard.lose_everything()
        self.settled.clear()
        self.answers.clear()  # What was answered before says nothing any more; a new epoch keeps it out.

    @invariant()
    def no_event_is_counted_twice(self) -> None:
        assert all(times == 1 for times in self.shard.counted.values())

    @invariant()
    def every_settled_event_is_counted(self) -> None:
        assert self.settled <= self.shard.counted.keys()

    @invariant()
    def dropped_events_were_never_sent(self) -> None:
        numbered = {entry.receipt for batch in self.sent.values() for entry in batch.entries}
        assert not self.dropped & numbered

    @invariant()
    def overdue_events_are_reported_once(self) -> None:
        assert all(times == 1 for times in self.overdue.values())

    @invariant()
    def events_are_sent_once_and_in_order(self) -> None:
        numbered = [entry.receipt for batch in self.sent.values() for entry in batch.entries]
        kept = [event for event in self.added if event not in self.dropped]
        assert numbered == kept[: len(numbered)]

    def teardown(self) -> None:
        """Once messages pass again, everything that was not dropped or given up is counted."""
        while not self.outbox.idle:
            self.now += 3.0
            batch = self.outbox.next_to_send(self.now)
            assert batch is not None
            an_id, answer, opnum = self._answer(batch)
            if isinstance(batch, Question):
                assert self.outbox.told(an_id, opnum)
            elif answer == OK:
                assert self.outbox.settle(an_id, opnum) is batch
            else:
                assert self.outbox.give_up(an_id) is batch
        self.no_event_is_counted_twice()
        self.every_settled_event_is_counted()


OutboxMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestOutboxMachine = OutboxMachine.TestCase
