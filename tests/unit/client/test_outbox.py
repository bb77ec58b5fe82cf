"""The outbox: what is sent when, under which number, and what is never sent twice."""

import itertools
from collections.abc import Iterator

import pytest

from tally.client.outbox import (
    ATTEMPT_S,
    BACKOFF_FIRST_S,
    BACKOFF_MAX_S,
    HEARD_MAX_S,
    SUB_BATCH_EVENTS_MAX,
    Question,
    SlotOutbox,
    SubBatch,
    backoff_s,
)
from tally.client.suspects import Suspects, name_of
from tally.errors import Overloaded
from tests.support.events import click

LATER = 1e9
"""A deadline that no test reaches."""

MIDDLE = 0.5
"""A jitter."""


def numbered_writers() -> Iterator[bytes]:
    return (bytes([number]) * 16 for number in itertools.count(1))


def new_outbox(events_max: int = 8, suspects: Suspects | None = None) -> SlotOutbox[str]:
    writers, ids = numbered_writers(), itertools.count(1)
    return SlotOutbox(3, events_max=events_max, writers=writers, ids=ids, suspects=suspects)


def add(outbox: SlotOutbox[str], *users: str, deadline: float = LATER) -> None:
    """Add a click of each user, whose receipt is the user's name."""
    for user in users:
        outbox.add(click(user), deadline, user)


def send(outbox: SlotOutbox[str], now: float = 0.0) -> SubBatch[str]:
    """Return the sub-batch that is sent now; if the writer asks before it, it is told 0."""
    if outbox.asks_next(now) and outbox.due(now):
        assert outbox.told(ask(outbox, now).id, 0)
    batch = outbox.next_to_send(now)
    assert isinstance(batch, SubBatch)
    return batch


def ask(outbox: SlotOutbox[str], now: float = 0.0) -> Question:
    question = outbox.next_to_send(now)
    assert isinstance(question, Question)
    return question


def settle(outbox: SlotOutbox[str], now: float = 0.0) -> None:
    assert outbox.settle(send(outbox, now).id, 0) is not None


def receipts(batch: SubBatch[str] | None) -> list[str]:
    assert batch is not None
    return [entry.receipt for entry in batch.entries]


def test_nothing_is_sent_while_nothing_waits() -> None:
    outbox = new_outbox()
    assert outbox.idle
    assert not outbox.due(0.0)
    assert outbox.next_to_send(0.0) is None


def test_all_that_waits_is_sent_at_once_in_order() -> None:
    outbox = new_outbox()
    add(outbox, "ann", "bob", "ann")
    assert outbox.due(0.0)
    batch = send(outbox)
    assert receipts(batch) == ["ann", "bob", "ann"]
    assert (batch.writer, batch.seq, batch.slot) == (bytes([1]) * 16, 1, 3)


def test_sub_batch_has_at_most_a_thousand_events() -> None:
    outbox = new_outbox(events_max=SUB_BATCH_EVENTS_MAX + 1)
    add(outbox, *["ann"] * (SUB_BATCH_EVENTS_MAX + 1))
    assert len(send(outbox).entries) == SUB_BATCH_EVENTS_MAX
    settle(outbox, ATTEMPT_S)
    assert len(send(outbox).entries) == 1


def test_what_comes_while_a_sub_batch_is_in_doubt_waits_for_it() -> None:
    outbox = new_outbox()
    add(outbox, "ann")
    first = send(outbox)
    add(outbox, "bob")
    assert outbox.next_to_send(0.0) is None
    assert outbox.in_doubt is first
    assert receipts(outbox.settle(first.id, 0)) == ["ann"]
    assert receipts(send(outbox)) == ["bob"]


def test_suspect_is_sent_alone_and_in_its_turn() -> None:
    suspects = Suspects()
    suspects.suspect([name_of(click("bob")), name_of(click("cat"))], 0.0)
    outbox = new_outbox(suspects=suspects)
    add(outbox, "ann", "ann", "bob", "cat", "ann", "bob")
    sent: list[list[str]] = []
    while not outbox.idle:
        sent.append(receipts(send(outbox, ATTEMPT_S * len(sent))))
        settle(outbox, ATTEMPT_S * len(sent))
    assert sent == [["ann", "ann"], ["bob"], ["cat"], ["ann"], ["bob"]]


def test_dropped_event_is_not_sent_and_the_others_keep_their_order() -> None:
    outbox = new_outbox()
    add(outbox, "ann", "bob", "cat", "bob")
    assert outbox.drop(lambda event: event == click("bob")) == ["bob", "bob"]
    assert outbox.drop(lambda event: event == click("bob")) == []
    assert receipts(send(outbox)) == ["ann", "cat"]


def test_numbers_are_1_2_3() -> None:
    outbox = new_outbox()
    for seq in (1, 2, 3):
        add(outbox, "ann")
        batch = send(outbox)
        assert (batch.seq, batch.writer) == (seq, bytes([1]) * 16)
        outbox.settle(batch.id, 0)


def test_refused_sub_batch_is_sent_again_with_its_number() -> None:
    """A refusal never gives a number back: the first attempt may still arrive."""
    outbox = new_outbox()
    add(outbox, "ann")
    first = send(outbox)
    add(outbox, "bob")
    outbox.hold_off(first.id, 0.0, MIDDLE)
    assert outbox.next_to_send(0.0) is None
    assert not outbox.due(0.0)
    assert outbox.due(BACKOFF_FIRST_S)
    assert send(outbox, BACKOFF_FIRST_S) is first


def test_sub_batch_without_an_answer_is_sent_again_after_the_attempt() -> None:
    outbox = new_outbox()
    add(outbox, "ann")
    first = send(outbox, 10.0)
    assert not outbox.due(10.0 + ATTEMPT_S - 0.01)
    assert outbox.due(10.0 + ATTEMPT_S)
    assert send(outbox, 10.0 + ATTEMPT_S) is first


def test_new_owner_is_sent_the_doubtful_sub_batch_at_once() -> None:
    outbox = new_outbox()
    add(outbox, "ann")
    first = send(outbox, 10.0)
    outbox.hold_off(first.id, 10.0, MIDDLE)
    outbox.send_again_now()
    assert send(outbox, 10.0) is first


def test_new_owner_that_is_not_ready_is_asked_again_after_the_shortest_pause() -> None:
    outbox = new_outbox()
    add(outbox, "ann")
    first = send(outbox, 10.0)
    for _ in range(20):
        outbox.hold_off(first.id, 10.0, MIDDLE)
    outbox.send_again_now()
    send(outbox, 10.0)
    outbox.hold_off(first.id, 10.0, MIDDLE)
    assert send(outbox, 10.0 + backoff_s(1, MIDDLE)) is first


def test_pauses_grow_while_refusals_come_and_begin_anew_after_an_answer() -> None:
    outbox = new_outbox()
    add(outbox, "ann")
    batch = send(outbox)
    now, pauses = 0.0, []
    for _ in range(7):
        outbox.hold_off(batch.id, now, 1.0)
        pauses.append(outbox._send_at - now)
        now = outbox._send_at
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    outbox.settle(batch.id, 0)
    add(outbox, "bob")
    outbox.hold_off(send(outbox, now).id, now, 1.0)
    assert outbox.due(now + BACKOFF_FIRST_S)


@pytest.mark.parametrize("refusals", [1, 2, 5, 6, 100, 10_000])
def test_backoff_stays_between_half_and_all_of_its_bound(refusals: int) -> None:
    longest = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(refusals - 1, 20))
    assert backoff_s(refusals, 0.0) == longest / 2
    assert longest / 2 < backoff_s(refusals, 0.999) < longest


def test_late_answer_settles_nothing() -> None:
    outbox = new_outbox()
    add(outbox, "ann")
    first = send(outbox)
    outbox.settle(first.id, 0)
    assert outbox.settle(first.id, 0) is None
    add(outbox, "bob")
    second = send(outbox)
    assert outbox.settle(first.id, 0) is None
    assert outbox.give_up(first.id) is None
    assert outbox.in_doubt is second
    assert second.writer == first.writer


def test_late_refusal_does_not_hold_off_the_next_sub_batch() -> None:
    outbox = new_outbox()
    add(outbox, "ann")
    first = send(outbox)
    outbox.settle(first.id, 0)
    add(outbox, "bob")
    send(outbox)
    outbox.hold_off(first.id, 100.0, MIDDLE)
    assert outbox.due(ATTEMPT_S)


def test_event_past_its_deadline_is_dropped_before_it_is_numbered() -> None:
    outbox = new_outbox()
    add(outbox, "ann", deadline=1.0)
    add(outbox, "bob", deadline=2.0)
    assert outbox.expire(0.9) == ([], [])
    assert outbox.expire(1.0) == (["ann"], [])
    assert receipts(send(outbox, 1.0)) == ["bob"]


def test_event_in_doubt_past_its_deadline_is_reported_once_and_still_sent() -> None:
    outbox = new_outbox()
    add(outbox, "ann", deadline=1.0)
    add(outbox, "bob", deadline=2.0)
    first = send(outbox)
    assert outbox.expire(1.0) == ([], ["ann"])
    assert outbox.expire(1.5) == ([], [])
    assert outbox.expire(2.0) == ([], ["bob"])
    assert outbox.expire(LATER) == ([], [])
    assert send(outbox, ATTEMPT_S) is first


def test_overdue_events_of_the_next_sub_batch_are_reported_too() -> None:
    outbox = new_outbox()
    add(outbox, "ann", deadline=1.0)
    settled = send(outbox)
    outbox.expire(1.0)
    outbox.settle(settled.id, 0)
    add(outbox, "bob", deadline=2.0)
    send(outbox, 1.0)
    assert outbox.expire(2.0) == ([], ["bob"])


def test_dropped_events_leave_no_gap_in_the_numbers() -> None:
    outbox = new_outbox()
    add(outbox, "ann", deadline=1.0)
    outbox.expire(1.0)
    assert outbox.idle
    add(outbox, "bob")
    assert send(outbox, 1.0).seq == 1


def test_giving_up_goes_on_as_a_new_writer_from_1() -> None:
    """Under the old name the lost sub-batch could still arrive, and be taken for the next one."""
    outbox = new_outbox()
    add(outbox, "ann")
    settle(outbox)
    add(outbox, "bob")
    second = send(outbox)
    assert receipts(outbox.give_up(second.id)) == ["bob"]
    assert outbox.idle
    add(outbox, "eve")
    third = send(outbox)
    assert (second.writer, second.seq) == (bytes([1]) * 16, 2)
    assert (third.writer, third.seq) == (bytes([2]) * 16, 1)


def test_doubtful_sub_batch_keeps_its_writer_and_what_it_had_heard_however_long_it_takes() -> None:
    outbox = new_outbox()
    add(outbox, "ann")
    first = send(outbox)
    assert send(outbox, 1000 * HEARD_MAX_S) is first


def test_writer_asks_for_the_opnum_before_its_first_sub_batch() -> None:
    outbox = new_outbox()
    assert outbox.next_to_send(0.0) is None, "nobody waits for it"
    add(outbox, "ann")
    question = ask(outbox)
    assert question.slot == 3
    add(outbox, "bob")
    assert outbox.next_to_send(0.0) is None
    assert outbox.told(question.id, 17)
    batch = send(outbox)
    assert (receipts(batch), batch.seq, batch.heard) == (["ann", "bob"], 1, 17)


def test_question_is_sent_again_until_it_is_answered() -> None:
    outbox = new_outbox()
    add(outbox, "ann")
    question = ask(outbox)
    assert not outbox.due(ATTEMPT_S - 0.01)
    assert ask(outbox, ATTEMPT_S) is question
    outbox.hold_off(question.id, ATTEMPT_S, MIDDLE)
    assert ask(outbox, ATTEMPT_S + BACKOFF_FIRST_S) is question
    outbox.send_again_now()
    assert ask(outbox, ATTEMPT_S + BACKOFF_FIRST_S) is question


def test_event_whose_question_is_not_answered_in_time_is_dropped_and_the_next_one_need_not_ask_anew() -> None:
    outbox = new_outbox()
    add(outbox, "ann", deadline=1.0)
    question = ask(outbox)
    assert outbox.expire(1.0) == (["ann"], [])
    assert outbox.idle
    assert not outbox.due(ATTEMPT_S)
    assert outbox.told(question.id, 17)
    add(outbox, "bob")
    assert send(outbox, 1.0).heard == 17


def test_late_or_repeated_answer_to_a_question_tells_nothing() -> None:
    outbox = new_outbox()
    add(outbox, "ann")
    question = ask(outbox)
    assert outbox.told(question.id, 17)
    assert not outbox.told(question.id, 99)
    assert send(outbox).heard == 17
    assert not outbox.told(question.id, 99)


def test_each_sub_batch_carries_the_highest_number_that_was_told_before_it() -> None:
    outbox = new_outbox()
    heard = []
    for opnum in (5, 3, 8):
        add(outbox, "ann")
        batch = send(outbox)
        heard.append(batch.heard)
        assert outbox.settle(batch.id, opnum) is not None
    assert heard == [0, 5, 5]


def test_number_is_fixed_with_the_sub_batch() -> None:
    outbox = new_outbox()
    add(outbox, "ann")
    first = send(outbox)
    assert not outbox.told(0, 99)
    assert send(outbox, ATTEMPT_S) is first
    assert first.heard == 0


def test_writer_that_paused_for_more_than_a_minute_asks_again_and_keeps_its_name() -> None:
    outbox = new_outbox()
    add(outbox, "ann")
    settle(outbox)
    add(outbox, "bob")
    settle(outbox, HEARD_MAX_S)
    add(outbox, "eve")
    late = 2 * HEARD_MAX_S + 1
    question = ask(outbox, late)
    assert outbox.told(question.id, 40)
    batch = send(outbox, late)
    assert (batch.writer, batch.seq, batch.heard) == (bytes([1]) * 16, 3, 40)


def test_what_was_told_is_as_old_as_the_sub_batch_that_it_answered() -> None:
    """A process that was stopped finds answers from long ago when it goes on."""
    outbox = new_outbox()
    add(outbox, "ann")
    batch = send(outbox)
    assert outbox.settle(batch.id, 5) is not None
    add(outbox, "bob")
    assert ask(outbox, HEARD_MAX_S + 1).id != batch.id


def test_answer_to_a_question_of_long_ago_is_asked_for_again() -> None:
    outbox = new_outbox()
    add(outbox, "ann")
    question = ask(outbox)
    assert outbox.told(question.id, 5)
    assert ask(outbox, HEARD_MAX_S + 1).id != question.id


def test_new_writer_has_heard_nothing() -> None:
    """What the one before it had heard may be of ops that were given up."""
    outbox = new_outbox()
    add(outbox, "ann")
    assert outbox.told(ask(outbox).id, 1000)
    outbox.give_up(send(outbox).id)
    add(outbox, "bob")
    assert outbox.told(ask(outbox).id, 3)
    batch = send(outbox)
    assert (batch.writer, batch.seq, batch.heard) == (bytes([2]) * 16, 1, 3)


def test_full_queue_refuses_the_next_event() -> None:
    outbox = new_outbox(events_max=2)
    add(outbox, "ann", "bob")
    assert outbox.room() == 0
    with pytest.raises(Overloaded):
        add(outbox, "eve")
    assert receipts(send(outbox)) == ["ann", "bob"]


def test_events_in_doubt_take_no_room_in_the_queue() -> None:
    outbox = new_outbox(events_max=2)
    add(outbox, "ann", "bob")
    send(outbox)
    assert outbox.room() == 2
    add(outbox, "eve", "dan")
    assert not outbox.idle


def test_ids_differ_between_outboxes_that_share_them() -> None:
    ids = itertools.count(1)
    boxes: list[SlotOutbox[str]] = [
        SlotOutbox(slot, events_max=8, writers=numbered_writers(), ids=ids) for slot in (1, 2)
    ]
    for outbox in boxes:
        add(outbox, "ann")
    assert send(boxes[0]).id != send(boxes[1]).id
