"""What the writing half refuses, drops and gives up: full queues, deadlines, doubt without end."""

import pytest

from protos.tally.internal.v1 import node_pb2
from tally.client.outbox import DOUBT_MAX_S
from tally.errors import InDoubt, Overloaded, Unavailable
from tests.support import cluster_values
from tests.support.events import click, slot_of_event, users_of_slot
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
