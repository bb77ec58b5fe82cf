"""An outbox against a small model of a shard, with messages that are lost, repeated, late and out of order."""

import itertools
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tally.client.outbox import SlotOutbox, SubBatch
from tally.errors import Overloaded
from tests.support.events import click

OK, NOT_READY, OUT_OF_ORDER = "ok", "not ready", "out of order"


class ModelShard:
    """Counts by the rules: a number follows the last one, or it was counted before, or it is refused."""

    def __init__(self) -> None:
        self.counted: Counter[int] = Counter()
        self._last: dict[bytes, int] = {}

    def take(self, batch: SubBatch[int]) -> str:
        """Return the answer."""
        last = self._last.get(batch.writer, 0)
        if batch.seq <= last:
            return OK
        if batch.seq != last + 1:
            return OUT_OF_ORDER
        self._last[batch.writer] = batch.seq
        self.counted.update(entry.receipt for entry in batch.entries)
        return OK

    def lose_everything(self) -> None:
        """Be what is left after data was given up."""
        self.counted.clear()
        self._last.clear()


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
        self.on_the_way: list[SubBatch[int]] = []
        self.answers: list[tuple[int, str]] = []
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
        if batch is not None:
            assert self.in_doubt <= {batch.id}, "two sub-batches in doubt"
            assert self.sent.setdefault(batch.id, batch) == batch, "a sub-batch changed"
            self.in_doubt = {batch.id}
            self.on_the_way.append(batch)

    @precondition(lambda self: self.on_the_way)
    @rule(data=st.data(), is_ready=st.booleans(), arrives_again=st.booleans())
    def message_arrives(self, data: st.DataObject, is_ready: bool, arrives_again: bool) -> None:
        place = data.draw(st.integers(0, len(self.on_the_way) - 1))
        batch = self.on_the_way[place] if arrives_again else self.on_the_way.pop(place)
        self.answers.append((batch.id, self.shard.take(batch) if is_ready else NOT_READY))

    @precondition(lambda self: self.answers)
    @rule(data=st.data(), arrives_again=st.booleans(), jitter=st.floats(0.0, 1.0, exclude_max=True))
    def answer_arrives(self, data: st.DataObject, arrives_again: bool, jitter: float) -> None:
        place = data.draw(st.integers(0, len(self.answers) - 1))
        batch_id, answer = self.answers[place] if arrives_again else self.answers.pop(place)
        if answer == NOT_READY:
            self.outbox.hold_off(batch_id, self.now, jitter)
            return
        end = self.outbox.settle if answer == OK else self.outbox.give_up
        batch = end(batch_id, self.now)
        assert (batch is not None) == (batch_id in self.in_doubt), "a late answer settles nothing"
        self.in_doubt.discard(batch_id)
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
            end = self.outbox.settle if self.shard.take(batch) == OK else self.outbox.give_up
            assert end(batch.id, self.now) is batch
        self.no_event_is_counted_twice()
        self.every_settled_event_is_counted()


OutboxMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestOutboxMachine = OutboxMachine.TestCase
