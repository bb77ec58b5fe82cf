"""One read of one hour: each bucket is taken exactly once, whatever is refused, lost or late."""

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tally.client.counts import HourCounts
from tally.client.hour_read import Ask, HourRead
from tally.client.outbox import ATTEMPT_S, BACKOFF_FIRST_S
from tally.cluster.slot_map import SlotRow
from tally.hashing import Shape, first_slot_of
from tests.support.events import HOUR

SHAPE = Shape(slots=8, spreads=((0, 4),))
NOTHING = HourCounts(0, 0, 0)
ONE = HourCounts(1, 1, 1)
MIDDLE = 0.5
"""A jitter."""


def row(shard: str, epoch: int = 1) -> SlotRow:
    return SlotRow(epoch, shard, {shard: "00" * 16})


def rows_by_bucket(*owners: SlotRow) -> list[SlotRow]:
    """Return the rows of a map in which these own the four buckets of the hour."""
    rows = [row("elsewhere")] * SHAPE.slots
    for bucket, owner in enumerate(owners):
        rows[(first_slot_of(HOUR, SHAPE) + bucket) % SHAPE.slots] = owner
    return rows


TWO_SHARDS = rows_by_bucket(row("s1"), row("s2", 7), row("s1"), row("s1", 3))


def new_read() -> HourRead:
    return HourRead(HOUR, SHAPE, itertools.count(1))


def asked(asks: list[Ask]) -> dict[str, tuple[int, ...]]:
    return {ask.shard: ask.buckets for ask in asks}


def test_each_shard_is_asked_once_for_all_its_buckets_with_their_epochs() -> None:
    first, second = new_read().next_asks(TWO_SHARDS, 0.0)
    assert (first.shard, first.buckets, first.epochs, first.hour) == ("s1", (0, 2, 3), (1, 1, 3), HOUR)
    assert (second.shard, second.buckets, second.epochs, second.hour) == ("s2", (1,), (7,), HOUR)
    assert first.id != second.id


def test_numbers_are_there_when_every_bucket_is_in() -> None:
    read = new_read()
    first, second = read.next_asks(TWO_SHARDS, 0.0)
    found = [read.counts]
    read.answer(second.id, HourCounts(1, 2, 3), (), 0.0, MIDDLE)
    found.append(read.counts)
    read.answer(first.id, HourCounts(10, 20, 30), (), 0.0, MIDDLE)
    found.append(read.counts)
    assert found == [None, None, HourCounts(11, 22, 33)]
    assert read.next_asks(TWO_SHARDS, 100.0) == []


def test_nothing_is_asked_again_while_an_answer_may_come() -> None:
    read = new_read()
    read.next_asks(TWO_SHARDS, 0.0)
    assert read.next_asks(TWO_SHARDS, ATTEMPT_S - 0.01) == []
    assert len(read.open_asks) == 2


def test_answer_that_refuses_what_was_not_asked_for_is_none() -> None:
    read = new_read()
    first, second = read.next_asks(TWO_SHARDS, 0.0)
    read.answer(first.id, ONE, (0, 1), 0.0, MIDDLE)  # Bucket 1 was asked of the other.
    read.answer(second.id, ONE, (), 0.0, MIDDLE)
    (again,) = read.next_asks(TWO_SHARDS, 10.0)
    assert again.buckets == first.buckets
    read.answer(again.id, ONE, (), 10.0, MIDDLE)
    assert read.counts == HourCounts(2, 2, 2)


def test_refused_buckets_are_asked_for_again_after_a_pause() -> None:
    read = new_read()
    first, second = read.next_asks(TWO_SHARDS, 0.0)
    read.answer(first.id, HourCounts(5, 5, 5), (0, 3), 0.0, 1.0)
    read.answer(second.id, ONE, (), 0.0, MIDDLE)
    assert read.next_asks(TWO_SHARDS, BACKOFF_FIRST_S - 0.01) == []
    (again,) = read.next_asks(TWO_SHARDS, BACKOFF_FIRST_S)
    assert (again.shard, again.buckets) == ("s1", (0, 3))
    read.answer(again.id, ONE, (), 1.0, MIDDLE)
    assert read.counts == HourCounts(7, 7, 7)


def test_changed_map_is_followed_at_once_and_only_for_what_is_missing() -> None:
    read = new_read()
    first, _ = read.next_asks(TWO_SHARDS, 0.0)
    read.answer(first.id, ONE, (0,), 0.0, MIDDLE)
    read.ask_again_now()
    moved = rows_by_bucket(row("s3", 2), row("s3", 8), row("s1"), row("s1", 3))
    assert asked(read.next_asks(moved, 0.0)) == {"s3": (0,)}


def test_new_owner_that_is_not_ready_is_asked_again_after_the_shortest_pause() -> None:
    read, now = new_read(), 0.0
    for _ in range(20):
        for ask in read.next_asks(TWO_SHARDS, now):
            read.fail(ask.id, now, MIDDLE)
        now += 10.0
    read.ask_again_now()
    for ask in read.next_asks(TWO_SHARDS, now):
        read.answer(ask.id, ONE, ask.buckets, now, MIDDLE)
    assert read.next_asks(TWO_SHARDS, now + 2 * BACKOFF_FIRST_S)


def test_late_answer_counts_for_nothing() -> None:
    read = new_read()
    first, second = read.next_asks(TWO_SHARDS, 0.0)
    assert asked(read.next_asks(TWO_SHARDS, ATTEMPT_S)) == {"s1": (0, 2, 3), "s2": (1,)}
    for late in (first, second):
        read.answer(late.id, HourCounts(100, 100, 100), (), ATTEMPT_S, MIDDLE)
    assert read.counts is None
    for ask in list(read.open_asks):
        read.answer(ask.id, ONE, (), ATTEMPT_S, MIDDLE)
    assert read.counts == HourCounts(2, 2, 2)


def test_failed_question_is_asked_again_after_a_pause() -> None:
    read = new_read()
    first, second = read.next_asks(TWO_SHARDS, 0.0)
    read.fail(first.id, 0.0, 1.0)
    assert [ask.id for ask in read.open_asks] == [second.id]
    assert read.next_asks(TWO_SHARDS, 0.0) == []
    assert asked(read.next_asks(TWO_SHARDS, BACKOFF_FIRST_S)) == {"s1": (0, 2, 3)}


def test_refusal_of_an_attempt_that_was_given_up_is_no_reason_to_pause() -> None:
    read = new_read()
    first, _ = read.next_asks(TWO_SHARDS, 0.0)
    read.next_asks(TWO_SHARDS, ATTEMPT_S)
    read.fail(first.id, ATTEMPT_S, 1.0)
    read.answer(first.id, NOTHING, first.buckets, ATTEMPT_S, 1.0)
    assert len(read.open_asks) == 2
    assert len(read.next_asks(TWO_SHARDS, 2 * ATTEMPT_S)) == 2


@pytest.mark.parametrize(("spread", "slots"), [(1, 1), (1, 8), (8, 8)])
def test_hour_of_any_spread_is_read_whole(spread: int, slots: int) -> None:
    read = HourRead(HOUR, Shape(slots=slots, spreads=((0, spread),)), itertools.count(1))
    (ask,) = read.next_asks([row("s1")] * slots, 0.0)
    assert ask.buckets == tuple(range(spread))


class HourReadMachine(RuleBasedStateMachine):
    """Bucket b has 1000**b users, so that the sum tells how often each bucket was taken."""

    def __init__(self) -> None:
        super().__init__()
        self.read = new_read()
        self.rows = TWO_SHARDS
        self.now = 0.0
        self.asks: list[Ask] = []  # All that were ever sent: each may be answered, once, late, or again.
        self.ids: set[int] = set()

    @rule()
    def ask(self) -> None:
        open_before = {bucket for ask in self.read.open_asks for bucket in ask.buckets if ask.give_up_at > self.now}
        asks = self.read.next_asks(self.rows, self.now)
        assert len({ask.shard for ask in asks}) == len(asks), "two questions to one shard"
        for ask in asks:
            assert ask.id not in self.ids
            assert not open_before & set(ask.buckets), "a bucket is asked for while its answer may come"
            first = first_slot_of(HOUR, SHAPE)
            owners = [self.rows[(first + bucket) % SHAPE.slots] for bucket in ask.buckets]
            assert [(ask.shard, epoch) for epoch in ask.epochs] == [(owner.primary, owner.epoch) for owner in owners]
            self.ids.add(ask.id)
        self.asks.extend(asks)

    @precondition(lambda self: self.asks)
    @rule(data=st.data(), jitter=st.floats(0.0, 1.0, exclude_max=True))
    def answer(self, data: st.DataObject, jitter: float) -> None:
        ask = data.draw(st.sampled_from(self.asks))
        refused = data.draw(st.sets(st.sampled_from(ask.buckets)))
        self.read.answer(ask.id, self.sums(ask, refused), refused, self.now, jitter)

    @precondition(lambda self: self.asks)
    @rule(data=st.data(), jitter=st.floats(0.0, 1.0, exclude_max=True))
    def fail(self, data: st.DataObject, jitter: float) -> None:
        self.read.fail(data.draw(st.sampled_from(self.asks)).id, self.now, jitter)

    @rule(data=st.data())
    def map_changes(self, data: st.DataObject) -> None:
        owners = [row(data.draw(st.sampled_from(["s1", "s2", "s3"])), data.draw(st.integers(1, 9))) for _ in range(4)]
        self.rows = rows_by_bucket(*owners)
        self.read.ask_again_now()

    @rule(seconds=st.floats(0.0, 3.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @staticmethod
    def sums(ask: Ask, refused: set[int]) -> HourCounts:
        return HourCounts(sum(1000**bucket for bucket in ask.buckets if bucket not in refused), 0, 0)

    @invariant()
    def no_bucket_is_taken_twice(self) -> None:
        assert self.read.counts in {None, HourCounts(1_001_001_001, 0, 0)}

    def teardown(self) -> None:
        """Once every question is answered, the read ends with each bucket taken once."""
        while self.read.counts is None:
            self.now += ATTEMPT_S
            self.ask()
            for ask in list(self.read.open_asks):
                self.read.answer(ask.id, self.sums(ask, set()), (), self.now, MIDDLE)
        self.no_bucket_is_taken_twice()


HourReadMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestHourReadMachine = HourReadMachine.TestCase
