"""The coalescer: who is answered by which read."""

import itertools
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tally.client.coalescer import Coalescer, Expired
from tally.errors import Overloaded
from tests.support.events import HOUR

LATER = 1e9
"""A deadline that no test reaches."""


def new_coalescer(readers_max: int = 8) -> Coalescer[str]:
    return Coalescer(readers_max=readers_max)


def test_first_reader_begins_a_read_and_is_answered_by_it() -> None:
    readers = new_coalescer()
    assert readers.join(HOUR, LATER, "ann")
    assert readers.finish(HOUR) == (["ann"], False)
    assert len(readers) == 0


def test_readers_who_come_during_a_read_share_the_next_one() -> None:
    """The running one could miss a write that was acknowledged after it was sent."""
    readers = new_coalescer()
    readers.join(HOUR, LATER, "ann")
    readers.sent(HOUR)
    assert not readers.join(HOUR, LATER, "bob")
    assert not readers.join(HOUR, LATER, "eve")
    assert readers.finish(HOUR) == (["ann"], True)
    readers.sent(HOUR)
    assert not readers.join(HOUR, LATER, "dan")
    assert readers.finish(HOUR) == (["bob", "eve"], True)
    assert readers.finish(HOUR) == (["dan"], False)


def test_readers_who_come_before_a_read_is_sent_are_answered_by_it() -> None:
    readers = new_coalescer()
    assert readers.join(HOUR, LATER, "ann")
    assert not readers.join(HOUR, LATER, "bob")
    readers.sent(HOUR)
    assert not readers.join(HOUR, LATER, "eve")
    assert readers.finish(HOUR) == (["ann", "bob"], True)
    assert not readers.join(HOUR, LATER, "dan"), "the next one is not sent yet"
    assert readers.finish(HOUR) == (["eve", "dan"], False)


def test_hours_are_read_independently() -> None:
    readers = new_coalescer()
    assert readers.join(HOUR, LATER, "ann")
    assert readers.join(HOUR + 1, LATER, "bob")
    assert readers.finish(HOUR + 1) == (["bob"], False)
    assert readers.finish(HOUR) == (["ann"], False)


def test_reader_past_its_deadline_is_dropped_and_the_read_goes_on_for_the_others() -> None:
    readers = new_coalescer()
    readers.join(HOUR, 1.0, "ann")
    readers.sent(HOUR)
    readers.join(HOUR, 2.0, "bob")
    readers.join(HOUR, LATER, "eve")
    assert readers.expire(0.9) == Expired([], [], [])
    readers.finish(HOUR)
    assert readers.expire(2.0) == Expired(["bob"], [], [])
    assert readers.finish(HOUR) == (["eve"], False)


def test_read_that_nobody_waits_for_ends() -> None:
    readers = new_coalescer()
    readers.join(HOUR, 1.0, "ann")
    assert readers.expire(1.0) == Expired(["ann"], [HOUR], [])
    assert readers.join(HOUR, LATER, "bob")


def test_read_that_only_later_readers_wait_for_is_begun_anew() -> None:
    readers = new_coalescer()
    readers.join(HOUR, 1.0, "ann")
    readers.sent(HOUR)
    readers.join(HOUR, LATER, "bob")
    assert readers.expire(1.0) == Expired(["ann"], [], [HOUR])
    assert readers.finish(HOUR) == (["bob"], False)


def test_running_and_waiting_readers_can_expire_together() -> None:
    readers = new_coalescer()
    readers.join(HOUR, 1.0, "ann")
    readers.sent(HOUR)
    readers.join(HOUR, 1.0, "bob")
    assert readers.expire(1.0) == Expired(["ann", "bob"], [HOUR], [])
    assert len(readers) == 0


def test_too_many_readers_are_refused_whatever_hour_they_ask_for() -> None:
    readers = new_coalescer(readers_max=2)
    readers.join(HOUR, LATER, "ann")
    readers.join(HOUR, LATER, "bob")
    with pytest.raises(Overloaded):
        readers.join(HOUR + 1, LATER, "eve")
    readers.finish(HOUR)
    assert readers.join(HOUR + 1, LATER, "eve")


class CoalescerMachine(RuleBasedStateMachine):
    """Readers are numbers in the order of their arrival; a read, the last who came before it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: Coalescer[int] = Coalescer(readers_max=6)
        self.arrivals = itertools.count(1)
        self.arrived = 0
        self.now = 0.0
        self.deadlines: dict[int, float] = {}
        self.hours: dict[int, int] = {}
        self.running: dict[int, int | None] = {}  # Hour -> who had arrived when its read was sent; None: it was not.
        self.answered: Counter[int] = Counter()

    def begin(self, hour: int) -> None:
        assert hour not in self.running, "two reads of one hour"
        self.running[hour] = None

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def is_sent(self, data: st.DataObject) -> None:
        hour = data.draw(st.sampled_from(sorted(self.running)))
        self.readers.sent(hour)
        if self.running[hour] is None:
            self.running[hour] = self.arrived

    @rule(hour=st.integers(1, 3), patience=st.floats(0.1, 3.0))
    def join(self, hour: int, patience: float) -> None:
        reader = next(self.arrivals)
        try:
            begins = self.readers.join(hour, self.now + patience, reader)
        except Overloaded:
            assert len(self.readers) == 6
            return
        self.arrived = reader
        self.deadlines[reader], self.hours[reader] = self.now + patience, hour
        if begins:
            self.begin(hour)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def read_ends(self, data: st.DataObject) -> None:
        hour = data.draw(st.sampled_from(sorted(self.running)))
        sent_after = self.running.pop(hour)
        answered, begins = self.readers.finish(hour)
        for reader in answered:
            assert sent_after is None or reader <= sent_after, "it was answered by a read that was sent before it came"
            assert self.hours[reader] == hour
        self.answered.update(answered)
        if begins:
            self.begin(hour)

    @rule(seconds=st.floats(0.0, 2.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        expired = self.readers.expire(self.now)
        assert all(self.deadlines[reader] <= self.now for reader in expired.receipts)
        self.answered.update(expired.receipts)
        for hour in expired.ended + expired.restarted:
            del self.running[hour]
        for hour in expired.restarted:
            self.begin(hour)
        assert all(self.deadlines[reader] > self.now for reader in self.waiting())

    def waiting(self) -> set[int]:
        return self.deadlines.keys() - self.answered.keys()

    @invariant()
    def nobody_is_answered_twice_or_forgotten(self) -> None:
        assert all(times == 1 for times in self.answered.values())
        assert len(self.readers) == len(self.waiting())
        assert {self.hours[reader] for reader in self.waiting()} == self.running.keys()

    def teardown(self) -> None:
        """Every read ends; then everybody has an answer."""
        for hour in list(self.running):
            while hour in self.running:
                sent_after = self.running.pop(hour)
                answered, begins = self.readers.finish(hour)
                assert sent_after is None or all(reader <= sent_after for reader in answered)
                self.answered.update(answered)
                if begins:
                    self.begin(hour)
        assert not self.waiting()


CoalescerMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestCoalescerMachine = CoalescerMachine.TestCase
