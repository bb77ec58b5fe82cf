"""What the writing half of the routed client sends where, and what each answer does."""

import pytest

from protos.tally.internal.v1 import node_pb2
from tally.client.outbox import ATTEMPT_S, BACKOFF_MAX_S
from tally.client.suspects import UNEXPLAINED_S
from tally.client.writing import fresh_writers
from tally.errors import InDoubt, InvalidEvent, Unavailable
from tally.event import Refusal
from tests.support import cluster_values
from tests.support.events import HOUR, click, impression, keyed, slot_of_event
from tests.support.routing import SHARDS, answer_to
from tests.support.writing_bench import Bench


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


async def test_writer_asks_before_its_first_sub_batch_and_sends_what_it_was_told() -> None:
    bench = Bench()
    bench.opnum = None
    future = bench.record(click("ann"))
    question = bench.sent()
    slot = slot_of_event(click("ann"), cluster_values.SMALL)
    assert question == node_pb2.SubBatch(id=question.id, slot=slot, epoch=1)
    assert bench.messages() == []
    bench.writing.answer(answer_to(question, node_pb2.OUTCOME_OK, opnum=17), 0.0)
    batch = bench.sent()
    assert (batch.seq, batch.heard) == (1, 17)
    bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_OK, opnum=18), 0.0)
    assert future.result() is None
    bench.record(click("ann"))
    assert (following := bench.sent()).heard == 18
    assert following.seq == 2


@pytest.mark.parametrize("outcome", [node_pb2.OUTCOME_NOT_OWNER, node_pb2.OUTCOME_NOT_READY])
async def test_question_that_is_not_answered_now_is_asked_again_after_a_pause(
    outcome: node_pb2.Outcome.ValueType,
) -> None:
    bench = Bench()
    bench.opnum = None
    bench.record(click("ann"))
    question = bench.sent()
    bench.writing.answer(answer_to(question, outcome), 0.0)
    bench.writing.tick(0.0)
    assert bench.messages() == []
    bench.writing.tick(BACKOFF_MAX_S)
    assert bench.sent(BACKOFF_MAX_S) == question
    assert bench.around.rereads == (outcome == node_pb2.OUTCOME_NOT_OWNER)


async def test_question_goes_to_the_new_owner_when_the_map_changes_and_again_when_a_link_breaks() -> None:
    bench = Bench()
    bench.opnum = None
    bench.record(click("ann"))
    question = bench.sent()
    new_owner = bench.other(question.slot)
    bench.around.move(question.slot, new_owner)
    bench.writing.map_changed(0.0)
    (again,) = bench.message(new_owner)
    assert (again.id, again.seq, again.epoch) == (question.id, 0, 2)
    bench.writing.link_broken(new_owner, 0.0, refused=False)
    bench.writing.tick(BACKOFF_MAX_S)
    assert bench.sent(BACKOFF_MAX_S).id == question.id


async def test_event_whose_question_is_never_answered_is_definitely_not_counted() -> None:
    bench = Bench()
    bench.opnum = None
    future = bench.record(click("ann"), deadline=1.0)
    question = bench.sent()
    bench.writing.tick(1.0)
    assert isinstance(future.exception(), Unavailable)
    bench.writing.answer(answer_to(question, node_pb2.OUTCOME_OK, opnum=17), 1.0)
    bench.record(click("ann"))
    assert bench.sent(1.0).heard == 17


async def test_forgotten_writer_leaves_its_events_in_doubt_and_a_new_one_asks() -> None:
    bench = Bench()
    lost = bench.record(click("ann"))
    batch = bench.sent()
    next_one = bench.record(click("ann"))
    bench.opnum = None
    bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_FORGOTTEN, opnum=99), 0.0)
    assert isinstance(lost.exception(), InDoubt)
    question = bench.sent()
    assert question.seq == 0
    bench.writing.answer(answer_to(question, node_pb2.OUTCOME_OK, opnum=100), 0.0)
    following = bench.sent()
    assert (following.writer == batch.writer, following.seq, following.heard) == (False, 1, 100)
    bench.writing.answer(answer_to(following, node_pb2.OUTCOME_OK), 0.0)
    assert next_one.result() is None


@pytest.mark.parametrize("epoch", [0, 2])
async def test_forgotten_by_who_goes_by_another_map_is_not_definite(epoch: int) -> None:
    """A primary that was deposed may have less than the writer was told elsewhere."""
    bench = Bench()
    future = bench.record(click("ann"))
    batch = bench.sent()
    bench.writing.answer(answer_to(batch, node_pb2.OUTCOME_FORGOTTEN, epoch=epoch), 0.0)
    assert bench.around.rereads == 1
    assert not future.done()
    bench.writing.tick(BACKOFF_MAX_S)
    assert bench.sent(BACKOFF_MAX_S) == batch


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
    again_at = BACKOFF_MAX_S + UNEXPLAINED_S
    bench.writing.tick(again_at)
    assert bench.sent(again_at) == batch


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


def test_writer_ids_are_128_bits_that_nobody_has_twice() -> None:
    drawn = [writer for writer, _ in zip(fresh_writers(), range(1000), strict=False)]
    assert {len(writer) for writer in drawn} == {16}
    assert len(set(drawn)) == 1000
