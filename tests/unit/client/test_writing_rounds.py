"""The messages of the writing half: all slots of a shard together, round by round."""

from protos.tally.internal.v1 import node_pb2
from tally.client.writing import MESSAGE_EVENTS_MAX, ROUND_MAX_S
from tally.event import Event
from tests.support import cluster_values
from tests.support.events import HOUR, click, slot_of_event
from tests.support.routing import answer_to
from tests.support.writing_bench import Bench


def two_slots_of_one_shard(bench: Bench) -> tuple[Event, Event]:
    """Return events that go to the same shard in different sub-batches."""
    by_slot: dict[str, dict[int, Event]] = {}
    for number in range(1000):
        event = click(f"u{number}")
        slot = slot_of_event(event, cluster_values.SMALL)
        found = by_slot.setdefault(bench.owner(slot), {})
        found[slot] = event
        if len(found) == 2:
            one, other = found.values()
            return one, other
    raise AssertionError("each shard has one slot at most")


async def test_slots_of_a_shard_go_together_and_the_next_ones_when_something_is_answered() -> None:
    bench = Bench()
    one, other = two_slots_of_one_shard(bench)
    bench.record(one)
    first = bench.sent()
    bench.record(other)
    assert bench.messages() == []
    bench.around.woken.clear()
    bench.record(one)
    bench.writing.answer(answer_to(first, node_pb2.OUTCOME_OK), 0.0)
    assert bench.around.woken == {bench.owner(first.slot)}
    assert {batch.slot for batch in bench.messages()} == {
        slot_of_event(event, cluster_values.SMALL) for event in (one, other)
    }


async def test_slot_that_is_not_answered_holds_up_the_others_for_a_moment_only() -> None:
    bench = Bench()
    one, other = two_slots_of_one_shard(bench)
    bench.record(one)
    first = bench.sent()
    bench.record(other)
    bench.writing.tick(ROUND_MAX_S / 2)
    assert bench.messages(ROUND_MAX_S / 2) == []
    bench.around.woken.clear()
    bench.writing.tick(2 * ROUND_MAX_S)
    assert bench.around.woken == {bench.owner(first.slot)}
    assert bench.sent(2 * ROUND_MAX_S).slot == slot_of_event(other, cluster_values.SMALL)


async def test_message_is_bounded_and_the_rest_comes_with_the_next_one() -> None:
    bench = Bench(queue_events=100_000, slot_queue_events=10_000)
    owned = [slot for slot in range(cluster_values.SMALL.slots) if bench.owner(slot) == "s0"]
    hours = range(HOUR, HOUR + 24 * 400, 24)  # Every day starts at another slot.
    events = [click("ann", hour) for hour in hours]
    mine = [event for event in events if slot_of_event(event, cluster_values.SMALL) in owned]
    for _ in range(10_000 // len(mine)):
        for event in mine:
            bench.record(event)
    counts = []
    while batches := bench.message("s0"):
        counts.append(sum(len(batch.users) for batch in batches))
        for batch in batches:
            bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_OK), 0.0)
    assert sum(counts) == 10_000 // len(mine) * len(mine)
    assert all(count < MESSAGE_EVENTS_MAX + 1000 for count in counts)
