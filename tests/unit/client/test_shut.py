"""Slots whose primary says that it takes nothing: who is told at once, and what opens them again."""

import pytest

from protos.tally.internal.v1 import node_pb2
from tally.client.outbox import BACKOFF_MAX_S
from tally.client.shut import SHUT_S
from tally.errors import InDoubt, Refusing, Unavailable
from tests.support.events import click
from tests.support.routing import answer_to
from tests.support.writing_bench import Bench

NOT_READY = node_pb2.OUTCOME_NOT_READY


def shut(bench: Bench) -> node_pb2.SubBatch:
    """Send one event of ann, and let its shard say that its disk is full."""
    future = bench.record(click("ann"))
    batch = bench.sent()
    bench.writing.answer(answer_to(batch, NOT_READY, reason="disk_full"), 0.0)
    assert isinstance(future.exception(), InDoubt)
    assert str(future.exception()) == (
        f"the event was sent, but not acknowledged: the disk of shard {bench.owner(batch.slot)} is full"
    )
    return batch


async def test_full_disk_is_told_at_once_and_the_sub_batch_is_sent_on_as_it_was() -> None:
    bench = Bench()
    batch = shut(bench)
    with pytest.raises(Refusing, match=f"the disk of shard {bench.owner(batch.slot)} is full"):
        bench.record(click("ann"))
    bench.writing.tick(BACKOFF_MAX_S)
    assert bench.sent(BACKOFF_MAX_S) == batch
    bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_OK), BACKOFF_MAX_S)
    later = bench.record(click("ann"))
    following = bench.sent(BACKOFF_MAX_S)
    assert (following.writer, following.seq) == (batch.writer, 2)
    bench.writing.answer(answer_to(following, node_pb2.OUTCOME_OK), BACKOFF_MAX_S)
    assert later.result() is None


async def test_who_waits_behind_it_is_told_at_once_too_and_is_not_counted_later() -> None:
    bench = Bench()
    bench.record(click("ann"))
    batch = bench.sent()
    behind = bench.record(click("ann"))
    both = bench.record(click("ann"), click("ann"))
    bench.writing.answer(answer_to(batch, NOT_READY, reason="disk_full"), 0.0)
    assert isinstance(behind.exception(), Refusing)
    assert "is full" in str(both.exception())
    assert isinstance(both.exception(), InDoubt)  # Of several events some may be counted, as far as anybody knows.
    bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_OK), 0.0)
    assert bench.messages() == []


async def test_call_with_one_event_for_a_shut_slot_is_refused_whole() -> None:
    bench = Bench()
    shut(bench)
    with pytest.raises(Refusing):
        bench.record(*[click(f"u{number}") for number in range(20)], click("ann"))
    assert bench.messages() == []


async def test_other_slots_go_on() -> None:
    bench = Bench()
    batch = shut(bench)
    others = [click(f"u{number}") for number in range(20)]
    for event in others:
        try:
            bench.record(event)
        except Refusing:
            continue
    sent = bench.messages()
    assert sent
    assert all(other.slot != batch.slot for other in sent)


@pytest.mark.parametrize("reason", ["", "few_copies", "queue_full", "op_not_committed", "a word of a newer version"])
async def test_what_may_be_over_in_a_moment_keeps_all_waiting(reason: str) -> None:
    bench = Bench()
    first = bench.record(click("ann"))
    batch = bench.sent()
    behind = bench.record(click("ann"))
    bench.writing.answer(answer_to(batch, NOT_READY, reason=reason), 0.0)
    new = bench.record(click("ann"))
    assert not any(future.done() for future in (first, behind, new))


async def test_whose_time_runs_out_learns_the_reason_that_is_known() -> None:
    bench = Bench()
    first = bench.record(click("ann"), deadline=1.0)
    batch = bench.sent()
    behind = bench.record(click("ann"), deadline=1.0)
    bench.writing.answer(answer_to(batch, NOT_READY, reason="few_copies"), 0.5)
    bench.writing.tick(1.0)
    text = f"too few copies of slot {batch.slot} are in sync"
    assert (str(first.exception()), str(behind.exception())) == (
        f"the event was sent, but not acknowledged: {text}",
        text,
    )
    assert isinstance(behind.exception(), Unavailable)


@pytest.mark.parametrize("how", ["not ready", "broken", "moved", "silence"])
async def test_slot_is_open_again_when_the_reason_may_be_gone(how: str) -> None:
    bench = Bench()
    batch = shut(bench)
    shard = bench.owner(batch.slot)
    match how:
        case "not ready":
            bench.writing.tick(BACKOFF_MAX_S)
            bench.writing.answer(answer_to(bench.sent(BACKOFF_MAX_S), NOT_READY), BACKOFF_MAX_S)
        case "broken":
            bench.writing.link_broken(shard, 0.0, refused=False)
        case "moved":
            bench.around.move(batch.slot, bench.other(batch.slot))
            bench.writing.map_changed(0.0)
        case _:
            bench.writing.tick(SHUT_S)
            with pytest.raises(Refusing):
                bench.record(click("ann"))
            bench.writing.tick(SHUT_S + 0.1)
    assert not bench.record(click("ann")).done()


async def test_map_that_changes_elsewhere_opens_nothing() -> None:
    bench = Bench()
    batch = shut(bench)
    bench.around.move((batch.slot + 1) % 8, bench.owner(batch.slot))
    bench.writing.map_changed(0.0)
    with pytest.raises(Refusing):
        bench.record(click("ann"))
