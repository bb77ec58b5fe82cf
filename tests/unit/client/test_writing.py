"""The writing half of the routed client, without a socket: messages are taken out and answered by hand."""

import asyncio

import pytest

from protos.tally.internal.v1 import node_pb2
from tally.client.blame import Blame
from tally.client.outbox import ATTEMPT_S, BACKOFF_MAX_S, DOUBT_MAX_S
from tally.client.receipt import Receipt
from tally.client.writing import MESSAGE_EVENTS_MAX, ROUND_MAX_S, Writing, fresh_writers
from tally.errors import InDoubt, InvalidEvent, Overloaded, Unavailable
from tally.event import Event, Refusal
from tests.support import cluster_values
from tests.support.events import HOUR, click, impression, keyed, slot_of_event, users_of_slot
from tests.support.routing import SHARDS, Surroundings, answer_to

LATER = 1e9
"""A deadline that no test reaches."""


class Bench:
    """A ``Writing`` between callers and shards that the test plays."""

    def __init__(self, *, queue_events: int = 100, slot_queue_events: int = 50) -> None:
        self.around = Surroundings()
        self.blame = Blame()
        self.writing = Writing(
            lambda: self.around.state,
            queue_events=queue_events,
            slot_queue_events=slot_queue_events,
            wake=self.around.wake,
            reread_map=self.around.reread_map,
            blame=self.blame,
        )

    def record(self, *events: Event, deadline: float = LATER) -> asyncio.Future[None]:
        receipt = Receipt(len(events), asyncio.get_running_loop())
        self.writing.add(events, deadline, receipt)
        return receipt.future

    def message(self, shard: str, now: float = 0.0) -> list[node_pb2.SubBatch]:
        """Return what the link to a shard would send now."""
        request = node_pb2.ExchangeRequest()
        self.writing.fill(shard, request, now)
        return list(request.sub_batches)

    def messages(self, now: float = 0.0) -> list[node_pb2.SubBatch]:
        return [batch for shard in SHARDS for batch in self.message(shard, now)]

    def sent(self, now: float = 0.0) -> node_pb2.SubBatch:
        """Return the one sub-batch that goes out now."""
        (batch,) = self.messages(now)
        return batch

    def owner(self, slot: int) -> str:
        return self.around.row(slot).primary

    def other(self, slot: int) -> str:
        return next(shard for shard in SHARDS if shard != self.owner(slot))


async def test_event_goes_to_the_primary_of_its_slot_and_is_done_with_its_answer() -> None:
    bench = Bench()
    event = impression("Zoë")
    slot = slot_of_event(event, cluster_values.SMALL)
    future = bench.record(event)
    assert bench.around.woken == {bench.owner(slot)}
    (batch,) = bench.message(bench.owner(slot))
    assert (batch.slot, batch.epoch, batch.seq, len(batch.writer)) == (slot, 1, 1, 16)
    assert (list(batch.hours), list(batch.users), batch.kinds) == ([HOUR], ["Zoë".encode()], b"\x02")
    assert not future.done()
    bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_OK), 0.0)
    assert future.result() is None
    assert bench.messages(ATTEMPT_S) == []


async def test_events_of_one_call_go_to_their_slots_and_are_told_together() -> None:
    bench = Bench()
    events = [click(f"u{number}") for number in range(20)]
    future = bench.record(*events)
    batches = bench.messages()
    assert len(batches) > 1
    assert sorted(user for batch in batches for user in batch.users) == sorted(event.user for event in events)
    for batch in batches:
        assert not future.done()
        bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_OK), 0.0)
    assert future.result() is None


async def test_events_that_come_while_one_is_in_doubt_share_the_next_sub_batch() -> None:
    bench = Bench()
    first = bench.record(click("ann"))
    batch = bench.sent()
    later = [bench.record(click("ann")), bench.record(impression("ann"))]
    assert bench.messages() == []
    bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_OK), 0.0)
    following = bench.sent()
    assert (following.writer, following.seq, following.kinds) == (batch.writer, 2, b"\x01\x02")
    bench.writing.answer(answer_to(following, node_pb2.OUTCOME_OK), 0.0)
    assert all(future.done() for future in (first, *later))


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


async def test_full_queue_is_known_before_an_event_is_made_and_until_something_is_settled() -> None:
    bench = Bench(queue_events=1)
    assert bench.writing.overload() is None
    bench.record(click("ann"))
    assert isinstance(bench.writing.overload(), Overloaded)
    with pytest.raises(Overloaded):
        bench.record(click("ann"))
    bench.writing.answer(answer_to(bench.sent(), node_pb2.OUTCOME_OK), 0.0)
    assert bench.writing.overload() is None


async def test_keys_are_sent_in_the_order_of_the_events_and_not_at_all_if_there_are_none() -> None:
    bench = Bench()
    bench.record(click("ann"))
    first = bench.sent()
    assert list(first.keys) == []
    events = [click("ann"), keyed(click("ann"), "a"), keyed(impression("ann"), "b")]
    for event in events:
        bench.record(event)
    bench.writing.answer(answer_to(first, node_pb2.OUTCOME_OK), 0.0)
    assert list(bench.sent().keys) == [event.key for event in events]


async def test_not_owner_rereads_the_map_and_goes_to_the_new_owner_with_the_same_number() -> None:
    bench = Bench()
    future = bench.record(click("ann"))
    batch = bench.sent()
    bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_NOT_OWNER, epoch=2), 0.0)
    assert bench.around.rereads == 1
    assert not future.done()
    new_owner = bench.other(batch.slot)
    bench.around.move(batch.slot, new_owner)
    bench.around.woken.clear()
    bench.writing.map_changed(0.0)
    assert bench.around.woken == {new_owner}
    (again,) = bench.message(new_owner)
    assert again.epoch == 2
    again.epoch = batch.epoch
    assert again == batch
    bench.writing.answer(answer_to(again, node_pb2.OUTCOME_OK), 0.0)
    assert future.done()


async def test_other_slots_keep_their_answers_when_one_has_moved() -> None:
    bench = Bench()
    bench.record(*[click(f"u{number}") for number in range(20)])
    moved, *others = bench.messages()
    bench.writing.answer(answer_to(moved, node_pb2.OUTCOME_NOT_OWNER, epoch=2), 0.0)
    for batch in others:
        bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_OK), 0.0)
    bench.around.move(moved.slot, bench.other(moved.slot))
    bench.writing.map_changed(0.0)
    assert [batch.id for batch in bench.messages()] == [moved.id]


async def test_what_waits_for_the_old_owner_is_not_sent_there_any_more() -> None:
    bench = Bench()
    bench.record(click("ann"))
    slot = slot_of_event(click("ann"), cluster_values.SMALL)
    old_owner, new_owner = bench.owner(slot), bench.other(slot)
    bench.around.move(slot, new_owner)
    bench.writing.map_changed(0.0)
    assert bench.message(old_owner) == []
    (batch,) = bench.message(new_owner)
    assert (batch.seq, batch.epoch) == (1, 2)


async def test_not_ready_is_sent_again_after_a_pause_without_reading_the_map() -> None:
    bench = Bench()
    bench.record(click("ann"))
    batch = bench.sent()
    bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_NOT_READY), 0.0)
    bench.writing.tick(0.0)
    assert bench.messages() == []
    bench.writing.tick(BACKOFF_MAX_S)
    assert bench.sent(BACKOFF_MAX_S) == batch
    assert bench.around.rereads == 0


@pytest.mark.parametrize("outcome", [node_pb2.OUTCOME_UNSPECIFIED, 99])
async def test_outcome_that_nobody_knows_is_not_definite(outcome: node_pb2.Outcome.ValueType) -> None:
    bench = Bench()
    future = bench.record(click("ann"))
    batch = bench.sent()
    bench.writing.answer(answer_to(batch, outcome), 0.0)
    bench.writing.tick(BACKOFF_MAX_S)
    assert bench.sent(BACKOFF_MAX_S) == batch
    assert not future.done()


async def test_out_of_order_in_our_epoch_leaves_the_events_in_doubt_and_goes_on_as_a_new_writer() -> None:
    bench = Bench()
    lost = bench.record(click("ann"))
    batch = bench.sent()
    next_one = bench.record(click("ann"))
    bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_OUT_OF_ORDER), 0.0)
    assert isinstance(lost.exception(), InDoubt)
    following = bench.sent()
    assert following.writer != batch.writer
    assert following.seq == 1
    bench.writing.answer(answer_to(following, node_pb2.OUTCOME_OK), 0.0)
    assert next_one.result() is None


async def test_answer_with_a_wrong_number_of_refusals_is_no_answer_to_go_by() -> None:
    """A bug or another version at the other end must not leave a caller without an answer, or a slot without a way."""
    bench = Bench()
    lost = bench.record(click("ann"))
    batch = bench.sent()
    answer = answer_to(batch, node_pb2.OUTCOME_OK)
    answer.refusals = bytes(2)
    bench.writing.answer(answer, 0.0)
    assert isinstance(lost.exception(), InDoubt)
    next_one = bench.record(click("bob"))
    bench.writing.answer(answer_to(bench.sent(), node_pb2.OUTCOME_OK), 0.0)
    assert next_one.result() is None


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


async def test_out_of_order_in_a_newer_epoch_waits_for_the_map() -> None:
    """Perhaps the map explains it; nothing may be given up before it is read."""
    bench = Bench()
    future = bench.record(click("ann"))
    batch = bench.sent()
    bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_OUT_OF_ORDER, epoch=2), 0.0)
    assert bench.around.rereads == 1
    assert not future.done()
    bench.writing.tick(BACKOFF_MAX_S)
    assert bench.sent(BACKOFF_MAX_S) == batch


@pytest.mark.parametrize("outcome", [node_pb2.OUTCOME_CONTENT_DIFFERS, node_pb2.OUTCOME_MALFORMED])
async def test_sub_batch_that_will_never_be_applied_does_not_block_its_slot(
    outcome: node_pb2.Outcome.ValueType,
) -> None:
    bench = Bench()
    lost = bench.record(click("ann"))
    batch = bench.sent()
    bench.writing.answer(answer_to(batch, outcome), 0.0)
    assert isinstance(lost.exception(), InDoubt)
    bench.record(click("ann"))
    following = bench.sent()
    assert (following.seq, following.writer == batch.writer) == (1, False)


async def test_refused_event_is_invalid_and_the_others_of_its_sub_batch_are_counted() -> None:
    bench = Bench()
    bench.record(click("ann"))
    first = bench.sent()
    good, bad = bench.record(click("ann")), bench.record(click("ann"))
    bench.writing.answer(answer_to(first, node_pb2.OUTCOME_OK), 0.0)
    refusals = bytes([Refusal.COUNTED, Refusal.USER_TOO_LONG])
    bench.writing.answer(answer_to(bench.sent(), node_pb2.OUTCOME_OK, refusals=refusals), 0.0)
    assert good.result() is None
    with pytest.raises(InvalidEvent, match="user must be at most 256 bytes long"):
        bad.result()


async def test_late_answer_to_a_settled_sub_batch_is_ignored() -> None:
    bench = Bench()
    bench.record(click("ann"))
    batch = bench.sent()
    bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_OK), 0.0)
    next_one = bench.record(click("ann"))
    bench.sent()
    for outcome in (node_pb2.OUTCOME_OK, node_pb2.OUTCOME_OUT_OF_ORDER, node_pb2.OUTCOME_NOT_OWNER):
        bench.writing.answer(answer_to(batch, outcome), 0.0)
    assert not next_one.done()
    assert bench.around.rereads == 0


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


async def test_event_waits_for_the_first_map() -> None:
    bench = Bench()
    bench.around.state = cluster_values.state()
    bench.record(click("ann"))
    bench.writing.tick(0.0)
    assert bench.messages() == []
    bench.around.state = cluster_values.state(mapped=True)
    bench.writing.map_changed(0.0)
    assert bench.sent().seq == 1


async def test_event_waits_for_a_way_to_its_shard() -> None:
    bench = Bench()
    bench.around.unreachable.update(SHARDS)
    bench.record(click("ann"))
    assert bench.messages() == []
    bench.around.unreachable.clear()
    bench.writing.tick(0.05)
    assert bench.sent(0.05).seq == 1


async def test_broken_link_sends_again_after_a_pause_what_was_not_answered() -> None:
    bench = Bench()
    bench.record(click("ann"))
    batch = bench.sent()
    bench.writing.link_broken(bench.other(batch.slot), 0.0, refused=False)
    bench.writing.tick(BACKOFF_MAX_S)
    assert bench.messages(BACKOFF_MAX_S) == [], "another link broke, not its own"
    bench.writing.link_broken(bench.owner(batch.slot), BACKOFF_MAX_S, refused=False)
    assert bench.messages(BACKOFF_MAX_S) == []
    bench.writing.tick(2 * BACKOFF_MAX_S)
    assert bench.sent(2 * BACKOFF_MAX_S) == batch


async def test_broken_link_of_the_old_owner_does_not_hold_up_the_new_one() -> None:
    bench = Bench()
    bench.record(click("ann"))
    batch = bench.sent()
    old_owner = bench.owner(batch.slot)
    bench.around.move(batch.slot, bench.other(batch.slot))
    bench.writing.map_changed(0.0)
    bench.sent()
    bench.writing.link_broken(old_owner, 0.0, refused=False)
    bench.writing.tick(ATTEMPT_S - 0.01)
    assert bench.messages(ATTEMPT_S - 0.01) == []
    bench.writing.tick(ATTEMPT_S)
    assert bench.sent(ATTEMPT_S).seq == batch.seq


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


async def test_closing_tells_those_in_doubt_from_those_that_were_not_sent() -> None:
    bench = Bench()
    sent = bench.record(click("ann"))
    bench.sent()
    waiting = bench.record(click("ann"))
    bench.writing.close()
    assert isinstance(sent.exception(), InDoubt)
    assert isinstance(waiting.exception(), Unavailable)


def test_writer_ids_are_128_bits_that_nobody_has_twice() -> None:
    drawn = [writer for writer, _ in zip(fresh_writers(), range(1000), strict=False)]
    assert {len(writer) for writer in drawn} == {16}
    assert len(set(drawn)) == 1000
