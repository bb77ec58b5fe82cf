"""What the writing half refuses, drops and gives up: full queues, deadlines, doubt without end, slots that stall."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle

import pytest

from protos.tally.internal.v1 import node_pb2
from tally.client.client import TICK_S
from tally.client.outbox import ATTEMPT_S, BACKOFF_MAX_S, DOUBT_MAX_S
from tally.client.stalls import STALLED_S
from tally.errors import InDoubt, Overloaded, SetAside, Unavailable
from tally.event import Event
from tests.support import cluster_values
from tests.support.events import HOUR, click, slot_of_event, users_of_slot
from tests.support.routing import SHARDS, answer_to
from tests.support.writing_bench import Bench


async def test_full_queue_is_known_before_an_event_is_made_and_until_something_is_settled() -> None:
    bench = Bench(queue_events=1)
    assert bench.writing.overload() is None
    bench.record(click("ann"))
    assert isinstance(bench.writing.overload(), Overloaded)
    with pytest.raises(Overloaded):
        bench.record(click("ann"))
    bench.writing.answer(answer_to(bench.sent(), node_pb2.OUTCOME_OK), 0.0)
    assert bench.writing.overload() is None


async def test_what_is_an_hour_in_doubt_is_given_up_and_its_slot_goes_on_as_a_new_writer() -> None:
    """Shards forget keys and writers some time; a sub-batch that comes after that would be counted again."""
    bench = Bench()
    lost = bench.record(click("ann"))
    batch = bench.sent()
    bench.writing.tick(DOUBT_MAX_S)
    assert bench.sent(DOUBT_MAX_S) == batch
    bench.writing.tick(DOUBT_MAX_S + 1)
    assert isinstance(lost.exception(), InDoubt)
    bench.record(click("bob"), deadline=2 * DOUBT_MAX_S)
    following = bench.sent(DOUBT_MAX_S + 2)
    assert (following.seq, list(following.users)) == (1, [b"bob"])
    assert following.writer != batch.writer


async def test_full_queue_takes_all_events_of_a_call_or_none() -> None:
    bench = Bench(queue_events=3)
    with pytest.raises(Overloaded):
        bench.record(*[click(f"u{number}") for number in range(4)])
    assert bench.messages() == []
    bench.record(click("u0"), click("u1"))
    with pytest.raises(Overloaded):
        bench.record(click("u2"), click("u3"))
    assert sum(len(batch.users) for batch in bench.messages()) == 2


async def test_full_slot_takes_all_events_of_a_call_or_none() -> None:
    bench = Bench(slot_queue_events=2)
    slot = slot_of_event(click("ann"), cluster_values.SMALL)
    crowd = [click(user) for user in users_of_slot(slot, 3, cluster_values.SMALL)]
    elsewhere = next(click(f"u{n}") for n in range(100) if slot_of_event(click(f"u{n}"), cluster_values.SMALL) != slot)
    with pytest.raises(Overloaded):
        bench.record(elsewhere, *crowd)
    assert bench.messages() == []
    future = bench.record(elsewhere)
    bench.writing.answer(answer_to(bench.sent(), node_pb2.OUTCOME_OK), 0.0)
    assert future.done()


async def test_full_slot_refuses_a_single_event_and_counts_no_room_for_it() -> None:
    bench = Bench(queue_events=3, slot_queue_events=1)
    slot = slot_of_event(click("ann"), cluster_values.SMALL)
    crowd = [click(user) for user in users_of_slot(slot, 2, cluster_values.SMALL)]
    bench.record(crowd[0])
    for _ in range(5):
        with pytest.raises(Overloaded, match=f"slot {slot} is full"):
            bench.record(crowd[1])
    bench.sent()
    bench.record(crowd[1])


async def test_events_in_doubt_take_room_until_they_are_settled() -> None:
    bench = Bench(queue_events=1)
    future = bench.record(click("ann"), deadline=1.0)
    batch = bench.sent()
    bench.writing.tick(1.0)
    assert isinstance(future.exception(), InDoubt)
    with pytest.raises(Overloaded):
        bench.record(click("ann"))
    bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_OK), 1.5)
    bench.record(click("ann"))


async def test_event_that_was_never_sent_is_not_counted_after_its_deadline() -> None:
    bench = Bench(queue_events=1)
    bench.around.unreachable.update(SHARDS)
    future = bench.record(click("ann"), deadline=8.0)
    bench.writing.tick(7.9)
    assert not future.done()
    bench.writing.tick(8.0)
    assert isinstance(future.exception(), Unavailable)
    bench.around.unreachable.clear()
    bench.writing.tick(9.0)
    assert bench.messages(9.0) == []
    bench.record(click("ann"))


async def test_event_past_its_deadline_is_dropped_even_if_no_tick_came_in_between() -> None:
    bench = Bench()
    future = bench.record(click("ann"), deadline=1.0)
    assert bench.messages(1.0) == []
    assert isinstance(future.exception(), Unavailable)


async def test_closing_tells_those_in_doubt_from_those_that_were_not_sent() -> None:
    bench = Bench()
    sent = bench.record(click("ann"))
    bench.sent()
    waiting = bench.record(click("ann"))
    bench.writing.close()
    assert isinstance(sent.exception(), InDoubt)
    assert isinstance(waiting.exception(), Unavailable)


SILENT = "s0"
DEADLINE_S = 8.0


class Traffic(Bench):
    """A bench with events for each shard, all its slots in turn; time goes on tick by tick."""

    def __init__(self, *, queue_events: int) -> None:
        super().__init__(queue_events=queue_events, slot_queue_events=queue_events)
        self.now = 0.0
        events = [click(f"u{number}", HOUR + 24 * number) for number in range(100)]
        self._events: dict[str, Iterator[Event]] = {
            shard: cycle([event for event in events if self.owner(slot_of_event(event, cluster_values.SMALL)) == shard])
            for shard in SHARDS
        }

    def refused(self, shard: str, count: int = 1) -> list[Overloaded]:
        """Record so many events for the slots of a shard, one a call; return the refusals."""
        refusals = []
        for _ in range(count):
            try:
                self.call(shard)
            except Overloaded as refusal:
                refusals.append(refusal)
        return refusals

    def call(self, *shards: str) -> None:
        """Record events for the slots of these shards, all in one call."""
        events = [next(self._events[shard]) for shard in shards]
        self.record(*events, deadline=self.now + DEADLINE_S).add_done_callback(asyncio.Future.exception)

    def count(self, *shards: str, outcome: node_pb2.Outcome.ValueType = node_pb2.OUTCOME_OK) -> None:
        """Let shards answer what they have, and what they are sent upon that."""
        for shard in shards:
            while batches := self.message(shard, self.now):
                for batch in batches:
                    self.writing.answer(answer_to(batch, outcome), self.now)

    def tick(self) -> None:
        self.now += TICK_S
        self.writing.tick(self.now)

    def die_twice(self) -> None:
        """Let the silent shard die of what it was sent, come back, and die of it again."""
        for _ in range(2):
            self.now += BACKOFF_MAX_S
            self.tick()
            self.message(SILENT, self.now)
            self.writing.link_broken(SILENT, self.now, refused=False)
            self.writing.link_broken(SILENT, self.now, refused=True)

    def stall(self, count: int) -> None:
        """Record events for the silent shard, and wait until it is noticed that it does not answer them."""
        assert not self.refused(SILENT, count)
        self.message(SILENT, self.now)
        end = self.now + STALLED_S + 2 * TICK_S
        while self.now < end:
            self.tick()


async def test_shard_that_is_silent_for_long_costs_no_event_for_the_others_and_is_as_before_when_it_answers() -> None:
    bench = Traffic(queue_events=1000)
    healthy = [shard for shard in SHARDS if shard != SILENT]
    refusals = []
    while bench.now < 10.0:
        refusals += bench.refused(SILENT, 10)
        assert bench.writing.overload() is None
        for shard in healthy:
            assert not bench.refused(shard, 5), f"after {bench.now:.2f} s"
        bench.message(SILENT, bench.now)
        bench.count(*healthy)
        bench.tick()
    assert {str(refusal) for refusal in refusals} == {"the queue of slots that do not answer is full (500)"}
    bench.now += DEADLINE_S
    bench.tick()
    bench.count(*SHARDS)
    assert not bench.refused(SILENT, 1000)
    assert isinstance(bench.writing.overload(), Overloaded)


async def test_slots_that_do_not_answer_share_half_of_the_queue_and_leave_the_other_half() -> None:
    bench = Traffic(queue_events=100)
    bench.stall(30)
    assert len(bench.refused(SILENT, 30)) == 10
    assert not bench.refused("s1", 50)
    assert isinstance(bench.writing.overload(), Overloaded)


async def test_what_slots_hold_beyond_their_share_when_they_stall_is_kept() -> None:
    bench = Traffic(queue_events=100)
    bench.stall(90)
    assert len(bench.refused(SILENT)) == 1
    assert not bench.refused("s1", 10)
    bench.now += ATTEMPT_S
    bench.tick()
    bench.count(*SHARDS)
    assert not bench.refused(SILENT, 100)


async def test_call_with_events_for_stalled_slots_is_taken_whole_or_not_at_all() -> None:
    bench = Traffic(queue_events=20)
    bench.stall(9)
    for _ in range(3):
        with pytest.raises(Overloaded, match="do not answer"):
            bench.call(SILENT, "s1", SILENT)
    assert bench.message("s1", bench.now) == []
    bench.call(SILENT, "s1", "s2")
    assert len(bench.refused(SILENT)) == 1
    assert not bench.refused("s1", 8)
    assert isinstance(bench.writing.overload(), Overloaded)


async def test_slots_whose_sub_batches_are_given_up_were_not_answered() -> None:
    bench = Traffic(queue_events=100)
    bench.stall(10)
    assert not bench.refused(SILENT, 40)
    assert len(bench.refused(SILENT)) == 1
    bench.die_twice()
    assert len(bench.refused(SILENT, 11)) == 1, "ten are over, and the others wait still"


async def test_slot_that_holds_nothing_any_more_is_not_stalled() -> None:
    bench = Traffic(queue_events=100)
    bench.stall(1)
    assert bench.writing._stalls
    bench.die_twice()
    assert not bench.writing._stalls


async def test_slots_that_answer_all_the_time_do_not_stall_however_much_waits() -> None:
    bench = Traffic(queue_events=10_000)
    assert not bench.refused(SILENT, 9_900)
    while bench.now < 3 * STALLED_S:
        batches = bench.message(SILENT, bench.now)
        while bench.now < 3 * STALLED_S and bench.now % 0.5 < 0.4:
            bench.tick()
            assert not bench.refused(SILENT)
        for batch in batches:
            bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_OK), bench.now)
        assert not bench.refused(SILENT, sum(len(batch.users) for batch in batches))
        bench.tick()


async def test_refusals_that_are_not_definite_are_no_answer() -> None:
    bench = Traffic(queue_events=100)
    assert not bench.refused(SILENT, 50)
    while bench.now < 2 * STALLED_S:
        bench.count(SILENT, outcome=node_pb2.OUTCOME_NOT_READY)
        bench.tick()
    assert len(bench.refused(SILENT)) == 1


async def test_slots_that_nobody_can_be_told_of_stall_too() -> None:
    bench = Traffic(queue_events=100)
    bench.around.unreachable.add(SILENT)
    assert not bench.refused(SILENT, 50)
    while bench.now < 2 * STALLED_S:
        bench.tick()
    assert len(bench.refused(SILENT)) == 1
    bench.now += DEADLINE_S
    bench.tick()  # All were dropped.
    assert not bench.refused(SILENT, 100)


@pytest.mark.parametrize("seed", range(10))
async def test_counts_of_events_are_exact_whatever_happens(seed: int) -> None:
    chance = random.Random(seed)
    bench = Traffic(queue_events=200)
    writing, stalls = bench.writing, bench.writing._stalls
    most_held = 0
    for step in range(1500):
        shard = chance.choice(SHARDS)
        match chance.randrange(12):
            case 0 | 1 | 2:
                with suppress(Overloaded, SetAside):
                    bench.call(*chance.choices(SHARDS, k=chance.randrange(1, 12)))
            case 3 | 4 | 5 if step // 300 % 2:  # For a while nobody answers.
                outcome = chance.choice([node_pb2.OUTCOME_OK] * 3 + [node_pb2.OUTCOME_OUT_OF_ORDER])
                bench.count(shard, outcome=outcome)
            case 6:
                for batch in bench.message(shard, bench.now):
                    writing.answer(answer_to(batch, node_pb2.OUTCOME_NOT_READY), bench.now)
            case 7:
                bench.message(shard, bench.now)
                writing.link_broken(shard, bench.now, refused=chance.random() < 0.2)
            case 8:
                bench.around.move(chance.randrange(cluster_values.SMALL.slots), shard)
                writing.map_changed(bench.now)
            case 9 if chance.random() < 0.02:
                bench.now += DOUBT_MAX_S + 1
            case _:
                bench.tick()
        held = {slot: outbox.events for slot, outbox in writing._outboxes.items()}
        assert writing._events == sum(held.values())
        assert stalls.events == sum(held[slot] for slot in stalls._held)
        most_held = max(most_held, stalls.events)
    assert most_held >= 100
    bench.now += 2 * DOUBT_MAX_S
    bench.tick()
    bench.tick()
    assert (writing._events, stalls.events, stalls._held) == (0, 0, {})


async def test_closing_takes_those_that_wait_out_of_the_share() -> None:
    bench = Traffic(queue_events=100)
    bench.stall(20)
    in_doubt = bench.writing._events
    assert not bench.refused(SILENT, 10)
    bench.writing.close()
    assert bench.writing._events == bench.writing._stalls.events == in_doubt
