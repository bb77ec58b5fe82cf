"""Idempotency keys in an op: what is known is counted no more, for two days at least, whatever the clock does."""

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.tally.internal.v1 import node_pb2
from shard.counting.keys import CopyRecord, Counts, cell_key, known_key, known_keys_before
from shard.counting.labels import DAY_MS, LABELS_KNOWN
from shard.counting.op import SubBatch
from shard.counting.writers import Answer
from tally.event import Event, Kind, Refusal
from tally.hashing import bucket_of
from tests.support.cluster_values import SMALL
from tests.support.copies import ANN, BOB, NOW_MS, DictCopy, sub_batch
from tests.support.events import HOUR, click, impression, keyed, slot_of_event, users_of_slot

OK: Final = Answer(node_pb2.OUTCOME_OK)
TODAY: Final = NOW_MS // DAY_MS
"""The label of a copy's first op at ``NOW_MS``."""

SLOT: Final = slot_of_event(click("u0"), SMALL)
U0, U1 = users_of_slot(SLOT, 2, SMALL)
BUCKET: Final = bucket_of(HOUR, U0.encode(), SMALL)
ONCE: Final = keyed(click(U0), "once")


@pytest.fixture
def copy() -> DictCopy:
    """An empty copy of the slot that owns U0 and U1."""
    return DictCopy(SLOT)


def clicks(copy: DictCopy) -> int:
    return Counts.decode(copy.stored.get(cell_key(copy.record.generation, HOUR, BUCKET))).clicks


def known_labels(copy: DictCopy) -> list[int]:
    """Return the labels under which keys are stored, one for each key."""
    return [int.from_bytes(key[5:9], "big") for key in sorted(copy.rows(b"k"))]


def test_repetition_within_a_sub_batch_is_counted_once(copy: DictCopy) -> None:
    assert copy.apply(sub_batch(ANN, 1, ONCE, ONCE, ONCE)).answers == [OK]
    assert clicks(copy) == 1
    assert list(copy.rows(b"k")) == [known_key(copy.record.generation, TODAY, ONCE.key)]


def test_repetition_in_a_later_sub_batch_of_the_op_is_counted_once(copy: DictCopy) -> None:
    assert copy.apply(sub_batch(ANN, 1, ONCE), sub_batch(BOB, 1, ONCE), sub_batch(ANN, 2, ONCE)).answers == [OK] * 3
    assert clicks(copy) == 1


def test_repetition_in_a_later_op_uses_its_number_and_touches_no_count(copy: DictCopy) -> None:
    copy.apply(sub_batch(ANN, 1, ONCE))
    op = copy.apply(sub_batch(BOB, 1, ONCE))
    assert op.answers == [OK]
    assert op.before == {}
    assert [key[:1] for key, _ in op.puts] == [b"w"]
    assert copy.record.opnum == 2
    assert copy.apply(sub_batch(BOB, 2, click(U0))).answers == [OK]
    assert clicks(copy) == 2


def test_events_beside_a_repetition_are_counted(copy: DictCopy) -> None:
    copy.apply(sub_batch(ANN, 1, ONCE))
    copy.apply(sub_batch(ANN, 2, click(U0), ONCE, click(U1)))
    assert clicks(copy) == 3


def test_equal_events_without_a_key_are_separate_events(copy: DictCopy) -> None:
    copy.apply(sub_batch(ANN, 1, ONCE, click(U0), click(U0)))
    assert clicks(copy) == 3
    assert len(copy.rows(b"k")) == 1


@pytest.mark.parametrize("other", [impression(U0), click(U1), click(U0, HOUR + 1)])
def test_same_key_with_another_event_is_counted(copy: DictCopy, other: Event) -> None:
    op = copy.apply(sub_batch(ANN, 1, ONCE, keyed(other, "once")))
    assert op.answers == [OK]
    assert len(copy.rows(b"k")) == 2


def test_other_key_with_the_same_event_is_counted(copy: DictCopy) -> None:
    copy.apply(sub_batch(ANN, 1, ONCE, keyed(click(U0), "twice")))
    assert clicks(copy) == 2


def test_key_is_known_under_its_label_and_the_four_after(copy: DictCopy) -> None:
    copy.apply(sub_batch(ANN, 1, ONCE))
    for day in range(1, LABELS_KNOWN):
        copy.apply(sub_batch(ANN, 1 + day, ONCE), now_ms=after(day))
        assert clicks(copy) == 1
    copy.apply(sub_batch(ANN, 1 + LABELS_KNOWN, ONCE), now_ms=after(LABELS_KNOWN))
    assert clicks(copy) == 2


def test_key_of_a_slot_that_nobody_wrote_to_is_known_for_longer(copy: DictCopy) -> None:
    copy.apply(sub_batch(ANN, 1, ONCE))
    copy.apply(sub_batch(ANN, 2, ONCE), now_ms=after(30))
    assert clicks(copy) == 1


def test_repetition_does_not_make_a_key_known_for_longer(copy: DictCopy) -> None:
    for seq in (1, 2, 3):
        copy.apply(sub_batch(ANN, seq, ONCE), now_ms=NOW_MS + (seq - 1) * DAY_MS)
    assert known_labels(copy) == [TODAY]


@pytest.mark.parametrize("jump", [400, -400, 2, -2])
def test_clock_that_jumps_and_comes_back_forgets_no_key_of_the_last_two_days(jump: int) -> None:
    """One op with a wrong clock, at any time in between, and one key for every other hour."""
    hours = 3_600_000
    for wrong_at in range(49):
        other = DictCopy(SLOT)
        other.apply(sub_batch(ANN, 1, click(U0)), now_ms=NOW_MS - DAY_MS + 1)
        other.apply(sub_batch(ANN, 2, ONCE), now_ms=NOW_MS)
        for hour in range(1, 49):
            other.apply(sub_batch(ANN, 2 + hour, ONCE), now_ms=NOW_MS + hour * hours - 1)
            if hour == wrong_at:
                other.apply(sub_batch(BOB, 1, ONCE), now_ms=after(jump))
        assert clicks(other) == 2


def test_clock_that_has_jumped_ahead_does_not_stop_keys_from_being_forgotten(copy: DictCopy) -> None:
    copy.apply(sub_batch(ANN, 1, ONCE), now_ms=after(400))
    for day in range(LABELS_KNOWN + 1):
        copy.apply(sub_batch(ANN, 2 + day, click(U0)), now_ms=after(day))
    assert copy.rows(b"k") == {}


def test_clock_at_the_epoch_has_labels_too(copy: DictCopy) -> None:
    for seq, now_ms in enumerate((0, 0, DAY_MS, 2 * DAY_MS), 1):
        copy.apply(sub_batch(ANN, seq, ONCE), now_ms=now_ms)
    assert clicks(copy) == 1
    assert known_labels(copy) == [1]


@pytest.mark.parametrize(
    ("bad", "refusal"),
    [
        (Event(HOUR, b"a\x00", Kind.CLICK), Refusal.USER_HAS_CONTROL_BYTES),
        (Event(HOUR, U0.encode(), 3), Refusal.KIND_UNKNOWN),
        (next(click(f"u{n}") for n in range(99) if slot_of_event(click(f"u{n}"), SMALL) != SLOT), Refusal.OTHER_SLOT),
    ],
)
def test_refused_event_leaves_no_key(copy: DictCopy, bad: Event, refusal: Refusal) -> None:
    for seq in (1, 2):
        op = copy.apply(sub_batch(ANN, seq, keyed(bad, "once")))
        assert op.answers == [Answer(node_pb2.OUTCOME_OK, bytes([refusal]))]
    assert copy.rows(b"k") == {}


def test_sub_batch_that_is_not_applied_leaves_no_key(copy: DictCopy) -> None:
    copy.apply(sub_batch(ANN, 1, click(U0)))
    assert copy.apply(sub_batch(ANN, 3, ONCE)).answers == [Answer(node_pb2.OUTCOME_OUT_OF_ORDER)]
    copy.apply(sub_batch(ANN, 2, ONCE))
    assert clicks(copy) == 2


def test_same_number_with_another_key_is_other_content(copy: DictCopy) -> None:
    copy.apply(sub_batch(ANN, 1, ONCE))
    for other in (click(U0), keyed(click(U0), "other")):
        assert copy.apply(sub_batch(ANN, 1, other)).answers == [Answer(node_pb2.OUTCOME_CONTENT_DIFFERS)]
    assert sub_batch(ANN, 1, ONCE, click(U0)).content != sub_batch(ANN, 1, click(U0), ONCE).content


# What is no longer known is removed.


def after(days: int) -> int:
    return NOW_MS + days * DAY_MS


def test_op_that_begins_a_label_removes_what_is_known_no_longer_and_the_next_one_nothing(copy: DictCopy) -> None:
    copy.apply(sub_batch(ANN, 1, ONCE), now_ms=after(0))
    copy.apply(sub_batch(ANN, 2, keyed(click(U0), "next day")), now_ms=after(1))
    for day in range(2, LABELS_KNOWN):
        copy.apply(sub_batch(ANN, 1 + day, click(U0)), now_ms=after(day))
    assert known_labels(copy) == [TODAY, TODAY + 1]
    op = copy.apply(sub_batch(ANN, 6, click(U0)), now_ms=after(LABELS_KNOWN))
    assert op.range_deletes == [known_keys_before(copy.record.generation, TODAY + 1)]
    assert known_labels(copy) == [TODAY + 1]
    assert copy.apply(sub_batch(ANN, 7, click(U0)), now_ms=after(LABELS_KNOWN) + 1).range_deletes == []


def test_no_range_is_removed_where_no_keys_are_used(copy: DictCopy) -> None:
    """Each range that was removed is one more to look through for every read, until it is compacted."""
    for seq in range(1, 10):
        assert copy.apply(sub_batch(ANN, seq, click(U0)), now_ms=after(seq)).range_deletes == []


def test_ranges_end_some_labels_after_the_last_key(copy: DictCopy) -> None:
    copy.apply(sub_batch(ANN, 1, ONCE), now_ms=after(0))
    removed = [
        len(copy.apply(sub_batch(ANN, 1 + day, click(U0)), now_ms=after(day)).range_deletes) for day in range(1, 8)
    ]
    assert removed == [1, 1, 1, 1, 1, 0, 0]
    assert copy.rows(b"k") == {}


def test_op_that_applies_nothing_removes_nothing(copy: DictCopy) -> None:
    copy.apply(sub_batch(ANN, 1, ONCE), now_ms=after(0))
    op = copy.apply(sub_batch(ANN, 1, ONCE), now_ms=after(5))
    assert (op.puts, op.range_deletes) == ([], [])
    assert copy.record.label_ms == after(0)


def test_op_is_a_function_of_its_arguments(copy: DictCopy) -> None:
    batch = sub_batch(ANN, 1, *[keyed(click(U0), f"k{number}") for number in range(50)])
    assert copy.op(batch) == copy.op(batch)


# Any history.


class NaiveModel:
    """Counts as one would by hand: a list of what was counted when, looked through each time."""

    def __init__(self) -> None:
        self.last: dict[bytes, int] = {}
        self.label = 0
        self.label_ms = 0
        self.counted: list[tuple[int, Event]] = []

    def apply(self, batch: SubBatch, events: list[Event]) -> None:
        self.last[batch.writer] = batch.seq
        for event in events:
            known = event.key and any(event == other and self.knows(label) for label, other in self.counted)
            if event.user and not known:
                self.counted.append((self.label, event))

    def op(self, batches: list[tuple[SubBatch, list[Event]]], now_ms: int) -> None:
        applied, last = [], dict(self.last)
        for batch, its_events in batches:
            if batch.writer not in last or batch.seq == last[batch.writer] + 1:
                last[batch.writer] = batch.seq
                applied.append((batch, its_events))
        if applied and self.label and abs(now_ms - self.label_ms + 0.5) > DAY_MS:
            self.label, self.label_ms = self.label + 1, now_ms
        elif applied and not self.label:
            self.label, self.label_ms = TODAY + (now_ms - NOW_MS) // DAY_MS, now_ms
        for batch, its_events in applied:
            self.apply(batch, its_events)

    def knows(self, label: int) -> bool:
        return self.label - label < LABELS_KNOWN

    def keys(self) -> list[int]:
        return sorted(label for label, event in self.counted if event.key and self.knows(label))

    def counts(self, hour: int) -> Counts:
        events = [event for _, event in self.counted if event.hour == hour]
        clicks, impressions = (sum(event.kind == kind for event in events) for kind in Kind)
        return Counts(clicks, impressions, len({event.user for event in events}))


events = st.builds(
    Event,
    st.sampled_from([HOUR, HOUR + 1]),
    st.sampled_from([U0.encode(), U1.encode(), b""]),
    st.sampled_from(Kind),
    st.just(b""),
)
maybe_keyed = st.builds(lambda event, key: keyed(event, key) if key else event, events, st.sampled_from(["", "a", "b"]))
Sent = tuple[bytes, int, list[Event]]


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, list[Sent]]]:
    """Draw ops, each at a time of its own, of sub-batches that come in any order and again and again."""
    sent = [
        (writer, seq, draw(st.lists(maybe_keyed, min_size=1, max_size=4)))
        for writer in (ANN, BOB)
        for seq in range(1, draw(st.integers(1, 6)) + 1)
    ]
    ops = st.tuples(st.integers(-3, 9), st.lists(st.sampled_from(sent), min_size=1, max_size=4))
    return [(after(day), batches) for day, batches in draw(st.lists(ops, min_size=1, max_size=12))]


@settings(deadline=None)
@given(histories())
def test_any_history_counts_what_a_naive_model_counts(history: list[tuple[int, list[Sent]]]) -> None:
    copy, model = DictCopy(SLOT), NaiveModel()
    for now_ms, sent in history:
        batches = [sub_batch(writer, seq, *its_events) for writer, seq, its_events in sent]
        copy.apply(*batches, now_ms=now_ms)
        model.op([(batch, its_events) for batch, (_, _, its_events) in zip(batches, sent, strict=True)], now_ms)
        check(copy, model)


def check(copy: DictCopy, model: NaiveModel) -> None:
    for hour in (HOUR, HOUR + 1):
        assert Counts.decode(copy.stored.get(cell_key(copy.record.generation, hour, BUCKET))) == model.counts(hour)
    assert known_labels(copy) == model.keys()
    assert CopyRecord.decode(copy.record.encode()) == copy.record
