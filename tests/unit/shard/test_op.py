"""One op: which sub-batches are counted, what is written, what is answered."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.tally.internal.v1 import node_pb2
from shard.counting.keys import Counts, cell_key, user_key
from shard.counting.op import Counted, SubBatch
from shard.counting.writers import Answer
from tally.event import HOUR_MAX, Event, Kind, Refusal
from tally.hashing import bucket_of
from tests.support.cluster_values import SMALL
from tests.support.copies import ANN, BOB, DictCopy, sub_batch
from tests.support.events import HOUR, click, impression, slot_of_event, users_of_slot

OK = Answer(node_pb2.OUTCOME_OK)
OUT_OF_ORDER = Answer(node_pb2.OUTCOME_OUT_OF_ORDER)
CONTENT_DIFFERS = Answer(node_pb2.OUTCOME_CONTENT_DIFFERS)

SLOT = slot_of_event(click("u0"), SMALL)
U0, U1, U2 = users_of_slot(SLOT, 3, SMALL)
ELSEWHERE = next(f"u{n}" for n in range(100) if slot_of_event(click(f"u{n}"), SMALL) != SLOT)
BUCKET = bucket_of(HOUR, U0.encode(), SMALL)


@pytest.fixture
def copy() -> DictCopy:
    """An empty copy of the slot that owns U0, U1 and U2."""
    return DictCopy(SLOT)


def counts(copy: DictCopy, hour: int = HOUR) -> Counts:
    """Return what is stored for the one cell of an hour that the slot has."""
    return Counts.decode(copy.stored.get(cell_key(copy.record.generation, hour, BUCKET)))


def test_events_and_distinct_users_are_counted(copy: DictCopy) -> None:
    op = copy.apply(sub_batch(ANN, 1, click(U0), click(U0), impression(U0), impression(U1)))
    assert op.answers == [OK]
    assert counts(copy) == Counts(clicks=2, impressions=2, users=2)


def test_user_is_counted_once_across_sub_batches_and_ops(copy: DictCopy) -> None:
    copy.apply(sub_batch(ANN, 1, click(U0)), sub_batch(BOB, 1, click(U0), click(U1)))
    copy.apply(sub_batch(ANN, 2, click(U0), click(U1), click(U2)))
    assert counts(copy) == Counts(clicks=6, users=3)


def test_user_is_counted_again_in_another_hour(copy: DictCopy) -> None:
    copy.apply(sub_batch(ANN, 1, click(U0), click(U0, HOUR - 1)))
    assert counts(copy) == counts(copy, HOUR - 1) == Counts(clicks=1, users=1)


def test_key_of_a_user_is_written_exactly_when_the_user_is_counted(copy: DictCopy) -> None:
    cell = cell_key(copy.record.generation, HOUR, BUCKET)
    first = copy.apply(sub_batch(ANN, 1, click(U0), click(U0)))
    assert [key for key, _ in first.puts if key.startswith(b"u")] == [user_key(cell, U0.encode())]
    second = copy.apply(sub_batch(ANN, 2, click(U0)))
    assert not any(key.startswith(b"u") for key, _ in second.puts)


def test_repeated_sub_batch_is_answered_and_not_counted(copy: DictCopy) -> None:
    batch = sub_batch(ANN, 1, click(U0))
    copy.apply(batch)
    again = copy.op(batch)
    assert again.answers == [OK]
    assert again.puts == []
    assert again.record == copy.record


def test_repetition_within_one_op_is_counted_once(copy: DictCopy) -> None:
    batch = sub_batch(ANN, 1, click(U0))
    assert copy.apply(batch, batch).answers == [OK, OK]
    assert counts(copy) == Counts(clicks=1, users=1)


def test_repetition_of_an_older_number_is_ok(copy: DictCopy) -> None:
    copy.apply(sub_batch(ANN, 1, click(U0)), sub_batch(ANN, 2, click(U1)))
    assert copy.apply(sub_batch(ANN, 1, click(U0))).answers == [OK]
    assert counts(copy) == Counts(clicks=2, users=2)


def test_two_sub_batches_of_one_writer_fit_into_one_op(copy: DictCopy) -> None:
    op = copy.apply(sub_batch(ANN, 1, click(U0)), sub_batch(ANN, 2, click(U0)))
    assert op.answers == [OK, OK]
    assert counts(copy) == Counts(clicks=2, users=1)
    assert copy.record.opnum == 1
    (row,) = copy.writers()
    assert row.seq == 2


def test_gap_is_out_of_order_and_changes_nothing(copy: DictCopy) -> None:
    copy.apply(sub_batch(ANN, 1, click(U0)))
    op = copy.op(sub_batch(ANN, 3, click(U0)))
    assert op.answers == [OUT_OF_ORDER]
    assert op.puts == []


def test_gap_in_one_sub_batch_does_not_touch_the_others_of_its_op(copy: DictCopy) -> None:
    copy.apply(sub_batch(ANN, 1, click(U0)))
    op = copy.apply(sub_batch(ANN, 3, click(U0)), sub_batch(BOB, 1, click(U1)))
    assert op.answers == [OUT_OF_ORDER, OK]
    assert counts(copy) == Counts(clicks=2, users=2)


@pytest.mark.parametrize(
    "other",
    [
        sub_batch(ANN, 1, click(U1)),
        sub_batch(ANN, 1, impression(U0)),
        sub_batch(ANN, 1, click(U0, HOUR + 1)),
        sub_batch(ANN, 1, click(U0), click(U0)),
    ],
)
def test_same_number_with_other_content_is_not_applied(copy: DictCopy, other: SubBatch) -> None:
    copy.apply(sub_batch(ANN, 1, click(U0)))
    op = copy.op(other)
    assert op.answers == [CONTENT_DIFFERS]
    assert op.puts == []


def test_content_tells_names_apart_that_are_the_same_when_joined() -> None:
    assert sub_batch(ANN, 1, click("ab"), click("c")).content != sub_batch(ANN, 1, click("a"), click("bc")).content


def test_writers_have_numbers_of_their_own(copy: DictCopy) -> None:
    assert copy.apply(sub_batch(ANN, 1, click(U0)), sub_batch(BOB, 1, click(U0))).answers == [OK, OK]
    assert counts(copy) == Counts(clicks=2, users=1)
    assert copy.record.writers == 2


def test_refused_events_are_recorded_and_not_counted(copy: DictCopy) -> None:
    bad = [
        Event(HOUR_MAX + 1, U0.encode(), Kind.CLICK),
        Event(HOUR, b"", Kind.CLICK),
        Event(HOUR, b"x" * 257, Kind.CLICK),
        Event(HOUR, b"\xff", Kind.CLICK),
        Event(HOUR, b"a\x00", Kind.CLICK),
        Event(HOUR, U0.encode(), 3),
        click(ELSEWHERE),
    ]
    batch = sub_batch(ANN, 1, *bad, click(U0))
    refusals = bytes([1, 2, 3, 4, 5, 6, 7, 0])
    assert copy.apply(batch).answers == [Answer(node_pb2.OUTCOME_OK, refusals)]
    assert counts(copy) == Counts(clicks=1, users=1)
    assert copy.apply(batch).answers == [Answer(node_pb2.OUTCOME_OK, refusals)]
    assert counts(copy) == Counts(clicks=1, users=1)


def test_sub_batch_of_refused_events_alone_uses_its_number(copy: DictCopy) -> None:
    """Else the writer's next one would be out of order for ever."""
    refused = copy.apply(sub_batch(ANN, 1, click("")))
    assert refused.answers == [Answer(node_pb2.OUTCOME_OK, bytes([Refusal.USER_EMPTY]))]
    assert copy.rows(b"h") == {}
    assert copy.apply(sub_batch(ANN, 2, click(U0))).answers == [OK]


def test_event_of_another_slot_is_refused_by_every_slot_but_its_own() -> None:
    event = click(ELSEWHERE)
    counted = [slot for slot in range(SMALL.slots) if DictCopy(slot).op(sub_batch(ANN, 1, event)).answers == [OK]]
    assert counted == [slot_of_event(event, SMALL)]


def test_op_names_itself_by_epoch_and_number(copy: DictCopy) -> None:
    copy.record = copy.record._replace(epoch=5)
    for opnum in (1, 2):
        record = copy.apply(sub_batch(ANN, opnum, click(U0))).record
        assert (record.epoch, record.head_epoch, record.opnum) == (5, 5, opnum)


def test_digest_chains_over_content_and_order() -> None:
    one, other = sub_batch(ANN, 1, click(U0)), sub_batch(BOB, 1, click(U0))

    def digest(*ops: Sequence[SubBatch]) -> bytes:
        copy = DictCopy(SLOT)
        for batches in ops:
            copy.apply(*batches)
        return copy.record.digest

    histories = [
        [],
        [[one]],
        [[sub_batch(ANN, 1, click(U1))]],
        [[one], [other]],
        [[other], [one]],
        [[one], [sub_batch(ANN, 2, click(U0))]],
    ]
    assert len({digest(*history) for history in histories}) == len(histories)
    assert digest([one], [other]) == digest([one], [other], [one, other])


def test_before_holds_what_readers_see_while_the_op_is_under_way(copy: DictCopy) -> None:
    cell = cell_key(copy.record.generation, HOUR, BUCKET)
    assert copy.apply(sub_batch(ANN, 1, click(U0))).before == {cell: None}
    assert copy.op(sub_batch(ANN, 2, click(U0))).before == {cell: Counts(clicks=1, users=1).encode()}


class NaiveModel:
    """Counts as one would by hand."""

    def __init__(self) -> None:
        self.last: dict[bytes, int] = {}
        self.cells: dict[tuple[int, int], tuple[list[int], set[bytes]]] = {}

    def apply(self, batch: SubBatch) -> None:
        # Of a writer that nobody knows and nobody forgot, whatever comes first is counted.
        if batch.writer in self.last and batch.seq != self.last[batch.writer] + 1:
            return
        self.last[batch.writer] = batch.seq
        for hour, user, kind in zip(batch.hours, batch.users, batch.kinds, strict=True):
            if user and slot_of_event(Event(hour, user, kind), SMALL) == SLOT:
                events, users = self.cells.setdefault((hour, bucket_of(hour, user, SMALL)), ([0, 0], set()))
                events[kind - 1] += 1
                users.add(user)


events = st.builds(
    Event,
    st.sampled_from([HOUR, HOUR + 1, HOUR + 24]),
    st.sampled_from([U0.encode(), U1.encode(), U2.encode(), ELSEWHERE.encode(), b""]),
    st.sampled_from(Kind),
    st.just(b""),
)


@st.composite
def histories(draw: st.DrawFn) -> list[list[SubBatch]]:
    """Draw ops of sub-batches that come in any order, again and again, some of them never."""
    sent = [
        sub_batch(writer, seq, *draw(st.lists(events, min_size=1, max_size=5)))
        for writer in (ANN, BOB)
        for seq in range(1, draw(st.integers(1, 5)) + 1)
    ]
    places = st.integers(0, len(sent) - 1)
    return [[sent[place] for place in draw(st.lists(places, min_size=1, max_size=4))] for _ in range(8)]


@settings(deadline=None)
@given(histories())
def test_any_history_counts_what_a_naive_model_counts(history: list[list[SubBatch]]) -> None:
    copy, model = DictCopy(SLOT), NaiveModel()
    for batches in history:
        op = copy.apply(*batches)
        for batch in batches:
            model.apply(batch)
        check_against(copy, op, model)


def check_against(copy: DictCopy, op: Counted, model: NaiveModel) -> None:
    generation = copy.record.generation
    expected = {
        cell_key(generation, *cell): Counts(clicks, impressions, len(users)).encode()
        for cell, ((clicks, impressions), users) in model.cells.items()
    }
    assert copy.rows(b"h") == expected
    assert copy.rows(b"u").keys() == {
        user_key(cell_key(generation, *cell), user) for cell, (_, users) in model.cells.items() for user in users
    }
    assert {row.seq for row in copy.writers()} == set(model.last.values())
    assert copy.record.writers == len(model.last)
    assert op.before.keys() <= expected.keys()
