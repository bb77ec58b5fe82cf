"""Which sub-batches are counted: writers that are known, forgotten, late, or too many (PROTOCOL rule 13).

W1 to W7 are the schedules of PROTOCOL.md; each breaks a reading of the rule that looks right.
"""

import itertools
from collections import Counter
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protos.tally.internal.v1 import node_pb2
from shard.counting.keys import NUMBER_MAX, Counts, WriterRow, cell_key, writer_key
from shard.counting.op import SubBatch
from shard.counting.op_body import decode_body, encode_body
from shard.counting.writers import LIMITS, Answer, WriterLimits
from tally.hashing import bucket_of
from tests.support.cluster_values import SMALL
from tests.support.copies import ANN, BOB, NOW_MS, DictCopy, sub_batch
from tests.support.events import HOUR, click, slot_of_event, users_of_slot

OK: Final = Answer(node_pb2.OUTCOME_OK)
FORGOTTEN: Final = Answer(node_pb2.OUTCOME_FORGOTTEN)
OUT_OF_ORDER: Final = Answer(node_pb2.OUTCOME_OUT_OF_ORDER)
NOT_READY: Final = Answer(node_pb2.OUTCOME_NOT_READY)

SLOT: Final = slot_of_event(click("u0"), SMALL)
(U0,) = users_of_slot(SLOT, 1, SMALL)
EVENT: Final = click(U0)
FEW: Final = WriterLimits(rows=4, forgotten_at_once=2)
DAY_MS: Final = 86_400_000


@pytest.fixture
def copy() -> DictCopy:
    """An empty copy that knows four writers, and forgets two at once."""
    return DictCopy(SLOT, limits=FEW)


def clicks(copy: DictCopy) -> int:
    key = cell_key(copy.record.generation, HOUR, bucket_of(HOUR, U0.encode(), SMALL))
    return Counts.decode(copy.stored.get(key)).clicks


def send(copy: DictCopy, writer: bytes, seq: int, heard: int | None = None) -> Answer:
    """Let one event come in a sub-batch, and its op be committed; ``heard``: all that is committed, if not given."""
    batch = sub_batch(writer, seq, EVENT, heard=copy.record.opnum if heard is None else heard)
    return copy.apply(batch).answers[0]


_names = itertools.count()


def others(copy: DictCopy, count: int) -> None:
    """Let so many writers come that were never there before, each with one event, and each having asked."""
    for number in itertools.islice(_names, count):
        assert send(copy, f"{number:016}".encode(), 1) == OK


# Who is counted.


@pytest.mark.parametrize("seq", [1, 2, 3, NUMBER_MAX])
def test_writer_that_nobody_forgot_begins_with_any_number(copy: DictCopy, seq: int) -> None:
    assert send(copy, ANN, seq) == OK
    assert send(copy, ANN, seq) == OK
    assert clicks(copy) == 1


@pytest.mark.parametrize("heard", [1, 2, NUMBER_MAX])
def test_number_above_the_last_op_is_forgotten_and_never_stored(copy: DictCopy, heard: int) -> None:
    """Of an unknown writer and of one that is known: it had it from ops that were given up."""
    assert send(copy, ANN, 1, heard) == FORGOTTEN
    assert send(copy, ANN, 1, 0) == OK
    assert send(copy, ANN, 2, heard + 1) == FORGOTTEN
    assert clicks(copy) == 1
    assert [row.heard for row in copy.writers()] == [0]


def test_row_keeps_the_highest_that_its_writer_ever_had_heard(copy: DictCopy) -> None:
    others(copy, 1)
    send(copy, ANN, 1, 1)
    assert send(copy, ANN, 2, 0) == OK
    assert WriterRow.decode(copy.stored[writer_key(copy.record.generation, ANN)]).heard == 1


def test_sub_batch_that_is_forgotten_makes_no_op(copy: DictCopy) -> None:
    op = copy.op(sub_batch(ANN, 1, EVENT, heard=1))
    assert (op.answers, op.puts, op.record) == ([FORGOTTEN], [], copy.record)


# Who is forgotten.


def test_any_number_of_process_starts_leaves_a_slot_open() -> None:
    copy = DictCopy(SLOT)
    for start in range(0, 3 * LIMITS.rows, 500):
        batches = [
            sub_batch(n.to_bytes(16, "big"), 1, EVENT, heard=copy.record.opnum) for n in range(start, start + 500)
        ]
        assert copy.apply(*batches).answers == [OK] * 500
        assert copy.record.writers == len(copy.rows(b"w")) <= LIMITS.rows
        assert copy.record.floor <= copy.record.opnum
    assert copy.record.floor > 0


def test_nobody_is_forgotten_while_there_is_room(copy: DictCopy) -> None:
    others(copy, FEW.rows)
    assert (copy.record.writers, copy.record.floor) == (4, 0)
    assert send(copy, ANN, 1) == OK
    assert (copy.record.writers, copy.record.floor) == (3, 2)


def test_known_writer_makes_nobody_be_forgotten(copy: DictCopy) -> None:
    send(copy, ANN, 1)
    others(copy, FEW.rows - 1)
    for seq in range(2, 9):
        assert send(copy, ANN, seq) == OK
    assert (copy.record.writers, copy.record.floor) == (4, 0)


def test_those_that_had_heard_least_are_forgotten_and_the_floor_is_above_them(copy: DictCopy) -> None:
    for writer, heard in ((b"a" * 16, 0), (b"b" * 16, 1), (b"c" * 16, 0), (b"d" * 16, 2)):
        send(copy, writer, 1, heard)
    op = copy.apply(sub_batch(ANN, 1, EVENT, heard=4))
    generation = copy.record.generation
    assert sorted(op.deletes) == [writer_key(generation, b"a" * 16), writer_key(generation, b"c" * 16)]
    assert op.record.floor == 1


def test_floor_never_falls() -> None:
    """A newcomer that had heard less than those whom it makes be forgotten is the next one to go."""
    copy = DictCopy(SLOT, limits=WriterLimits(rows=2, forgotten_at_once=1))
    for seq in (1, 2):
        send(copy, ANN, seq)
        send(copy, BOB, seq)
    assert send(copy, b"n" * 16, 1, 0) == OK
    assert copy.record.floor == 3
    others(copy, 1)
    assert copy.record.floor == 3
    assert send(copy, ANN, 2, 2) == FORGOTTEN


def test_writer_whose_last_sub_batch_is_recent_stays_while_others_come_and_go(copy: DictCopy) -> None:
    for seq in range(1, 30):
        assert send(copy, ANN, seq) == OK
        others(copy, 1)
    assert clicks(copy) == 2 * 29


def test_forgotten_writer_that_has_asked_goes_on_with_its_next_number(copy: DictCopy) -> None:
    send(copy, ANN, 1)
    send(copy, ANN, 2)
    others(copy, 6)
    assert writer_key(copy.record.generation, ANN) not in copy.stored
    assert send(copy, ANN, 3) == OK
    assert send(copy, ANN, 3, 0) == OK, "a repetition of what is known needs no number"
    assert clicks(copy) == 9


def test_several_newcomers_of_one_op_are_judged_one_after_the_other(copy: DictCopy) -> None:
    """The first one raises the floor above what the second had heard."""
    others(copy, FEW.rows)
    op = copy.apply(sub_batch(ANN, 1, EVENT, heard=1), sub_batch(BOB, 1, EVENT, heard=1))
    assert op.answers == [OK, FORGOTTEN]
    assert (op.record.floor, op.record.writers, len(op.deletes)) == (2, 3, 2)


def test_one_op_may_forget_more_than_once(copy: DictCopy) -> None:
    others(copy, FEW.rows)
    newcomers = [sub_batch(bytes([number]) * 16, 1, EVENT, heard=4) for number in range(4)]
    op = copy.apply(*newcomers)
    assert op.answers == [OK] * 4
    assert (len(op.deletes), copy.record.writers, copy.record.floor) == (4, 4, 4)


def test_writers_of_the_op_itself_are_not_forgotten_by_it(copy: DictCopy) -> None:
    send(copy, ANN, 1, 0)
    others(copy, FEW.rows - 1)
    op = copy.apply(sub_batch(BOB, 1, EVENT, heard=4), sub_batch(ANN, 1, EVENT, heard=0), sub_batch(ANN, 2, EVENT))
    assert op.answers == [OK, OK, OK]
    assert clicks(copy) == 6


def test_newcomer_waits_if_all_rows_are_of_writers_of_its_op(copy: DictCopy) -> None:
    newcomers = [sub_batch(bytes([number]) * 16, 1, EVENT) for number in range(5)]
    assert copy.apply(*newcomers).answers == [OK, OK, OK, OK, NOT_READY]
    assert copy.apply(newcomers[4]).answers == [OK]


def test_backup_forgets_what_the_primary_forgot(copy: DictCopy) -> None:
    others(copy, FEW.rows)
    before, stored = copy.record, dict(copy.stored)
    op = copy.op(sub_batch(ANN, 1, EVENT, heard=4))
    record, changes = decode_body(encode_body(op), before)
    assert (record.floor, record.writers, record.label) == (op.record.floor, 3, op.record.label)
    stored.update(changes.puts)
    for key in changes.deletes:
        del stored[key]
    copy.commit(op)
    assert stored == copy.stored


def test_op_of_a_version_without_floors_does_not_lower_the_floor(copy: DictCopy) -> None:
    body = node_pb2.OpBody(writers=3, label_ms=NOW_MS, keys_label=19_000).SerializeToString()
    record, _ = decode_body(body, copy.record._replace(floor=7))
    assert (record.floor, record.label, record.label_ms) == (7, 0, NOW_MS)


def test_rows_of_format_2_are_forgotten_first(copy: DictCopy) -> None:
    """They say when their writers came, and nothing of what these had heard."""
    others(copy, 2)
    for writer in (b"old......writer.", b"older....writer."):
        value = (9).to_bytes(8, "big") + NOW_MS.to_bytes(8, "big") + bytes(16)
        copy.stored[writer_key(copy.record.generation, writer)] = value
    copy.record = copy.record._replace(writers=4)
    assert send(copy, b"old......writer.", 9) == Answer(node_pb2.OUTCOME_CONTENT_DIFFERS)
    assert send(copy, ANN, 1) == OK
    assert copy.record.floor == 1
    assert send(copy, b"old......writer.", 9, 0) == FORGOTTEN


# The schedules.


def test_w1_first_sub_batch_that_arrives_when_its_writer_is_forgotten_is_not_counted_again(copy: DictCopy) -> None:
    """Broken: an unknown writer begins with 1."""
    late = sub_batch(ANN, 1, EVENT, heard=0)
    assert copy.apply(late).answers == [OK]
    others(copy, 6)
    assert copy.apply(late).answers == [FORGOTTEN]
    assert clicks(copy) == 7


@pytest.mark.parametrize("days", [7, 400, -400])
def test_w2_no_clock_makes_a_late_sub_batch_be_counted_again_or_closes_the_slot(copy: DictCopy, days: int) -> None:
    """Broken: rows go when they are old by some clock, and only then."""
    late = sub_batch(ANN, 1, EVENT, heard=0)
    copy.apply(late, now_ms=NOW_MS)
    for number in range(6):
        batch = sub_batch(bytes([number]) * 16, 1, EVENT, heard=copy.record.opnum)
        assert copy.apply(batch, now_ms=NOW_MS + days * DAY_MS).answers == [OK]
        assert copy.apply(late, now_ms=NOW_MS).answers[0] in (OK, FORGOTTEN)
    assert clicks(copy) == 7


def test_w3_number_is_what_was_heard_when_the_sub_batch_was_numbered(copy: DictCopy) -> None:
    """Broken: an attempt carries what was heard since, and passes for one that was never counted."""
    first = sub_batch(ANN, 1, EVENT, heard=0)
    copy.apply(first)
    others(copy, 6)
    assert copy.apply(first).answers == [FORGOTTEN]
    renumbered = first._replace(heard=copy.record.opnum)
    assert copy.op(renumbered).answers == [OK], "and would be counted twice"


def test_w4_floor_is_above_what_the_forgotten_had_heard_not_at_it(copy: DictCopy) -> None:
    """Broken: F is the highest number of those that go."""
    others(copy, 1)
    late = sub_batch(ANN, 1, EVENT, heard=1)
    copy.apply(late)
    others(copy, 3)
    assert writer_key(copy.record.generation, ANN) not in copy.stored
    assert copy.record.floor == 2
    assert copy.apply(late).answers == [FORGOTTEN]


def test_w5_who_has_just_asked_is_not_below_the_floor(copy: DictCopy) -> None:
    """Broken: the op that forgets sets F to its own number, or above; a quiet slot would be closed for good."""
    for _ in range(50):
        others(copy, 1)
        assert copy.record.floor <= copy.record.opnum


def test_w6_number_of_a_line_that_was_given_up_does_not_close_the_slot(copy: DictCopy) -> None:
    """Broken: any number from F on is taken; stored, and forgotten, it puts F above all that anybody can hear."""
    send(copy, ANN, 1, 0)
    assert send(copy, ANN, 2, 1000) == FORGOTTEN
    assert send(copy, BOB, 1, 1000) == FORGOTTEN
    others(copy, 20)


def test_w7_floor_goes_with_the_copy(copy: DictCopy) -> None:
    """Broken: a clone brings the rows and not F; the new primary takes who was forgotten for new."""
    late = sub_batch(ANN, 1, EVENT, heard=0)
    copy.apply(late)
    others(copy, 6)
    clone = DictCopy(SLOT, limits=FEW)
    clone.stored, clone.record = dict(copy.stored), copy.record
    assert clone.apply(late).answers == [FORGOTTEN]
    clone.record = clone.record._replace(floor=0)
    assert clone.op(late).answers == [OK], "and would be counted twice"


# Any schedule.


class WritersMachine(RuleBasedStateMachine):
    """Writers that follow the rules, over a network that delays, repeats and loses, and a copy of few rows."""

    def __init__(self) -> None:
        super().__init__()
        self.copy = DictCopy(SLOT, limits=FEW)
        self.names = itertools.count(1)
        self.next_seq: dict[bytes, int] = {}
        self.heard: dict[bytes, int] = {}
        self.in_doubt: dict[bytes, SubBatch] = {}
        self.sent: list[SubBatch] = []
        self.applied: Counter[tuple[bytes, int]] = Counter()
        self.acknowledged: set[tuple[bytes, int]] = set()

    def _some(self, data: st.DataObject) -> bytes:
        return data.draw(st.sampled_from(sorted(self.next_seq)))

    @rule()
    def writer_starts(self) -> None:
        name = next(self.names).to_bytes(16, "big")
        self.next_seq[name], self.heard[name] = 1, self.copy.record.opnum

    @precondition(lambda self: self.next_seq)
    @rule(data=st.data())
    def writer_asks(self, data: st.DataObject) -> None:
        self.heard[self._some(data)] = self.copy.record.opnum

    @precondition(lambda self: self.next_seq)
    @rule(data=st.data())
    def writer_sends(self, data: st.DataObject) -> None:
        writer = self._some(data)
        if writer not in self.in_doubt:
            batch = sub_batch(writer, self.next_seq[writer], EVENT, heard=self.heard[writer])
            self.next_seq[writer] += 1
            self.in_doubt[writer] = batch
            self.sent.append(batch)

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), answered=st.booleans())
    def sub_batches_arrive(self, data: st.DataObject, answered: bool) -> None:
        batches = data.draw(st.lists(st.sampled_from(self.sent), min_size=1, max_size=3))
        rows = set(self.copy.rows(b"w"))
        floor, opnum = self.copy.record.floor, self.copy.record.opnum
        clicks_before = clicks(self.copy)
        op = self.copy.apply(*batches)
        self._note_applied(op.puts)
        assert clicks(self.copy) - clicks_before == self.applied.total() - clicks_before
        for batch, answer in zip(batches, op.answers, strict=True):
            if answer == FORGOTTEN:
                assert not floor <= batch.heard <= opnum or op.record.floor > floor
                assert writer_key(self.copy.record.generation, batch.writer) not in rows, "it is known"
            if answered:
                self._answered(batch, answer)

    def _note_applied(self, puts: list[tuple[bytes, bytes]]) -> None:
        for key, value in puts:
            if key.startswith(b"w"):
                self.applied[key[5:], WriterRow.decode(value).seq] += 1

    def _answered(self, batch: SubBatch, answer: Answer) -> None:
        if self.in_doubt.get(batch.writer) != batch:
            return
        if answer == OK:
            self.acknowledged.add((batch.writer, batch.seq))
            self.heard[batch.writer] = max(self.heard[batch.writer], self.copy.record.opnum)
            del self.in_doubt[batch.writer]
        elif answer in (FORGOTTEN, OUT_OF_ORDER):
            for state in (self.in_doubt, self.next_seq, self.heard):
                del state[batch.writer]  # It goes on as a new writer; this name is never used again.

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        assert all(times == 1 for times in self.applied.values())
        assert clicks(self.copy) == self.applied.total()

    @invariant()
    def what_is_acknowledged_is_counted(self) -> None:
        assert self.acknowledged <= self.applied.keys()

    @invariant()
    def who_asks_now_is_taken(self) -> None:
        record = self.copy.record
        assert record.floor <= record.opnum
        assert self.copy.op(sub_batch(ANN, 1, EVENT, heard=record.opnum)).answers == [OK]

    @invariant()
    def rows_are_few_and_below_the_last_op(self) -> None:
        assert self.copy.record.writers == len(self.copy.rows(b"w")) <= FEW.rows
        assert all(row.heard < self.copy.record.opnum for row in self.copy.writers())


WritersMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestWritersMachine = WritersMachine.TestCase


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3), st.integers(0, 30)), min_size=1, max_size=40))
def test_numbers_that_nobody_honest_sends_count_nothing_twice_and_close_no_slot(
    sent: list[tuple[int, int, int]],
) -> None:
    copy = DictCopy(SLOT, limits=FEW)
    for name, seq, heard in sent:
        send(copy, bytes([name]) * 16, seq, heard)
        assert copy.record.floor <= copy.record.opnum
    assert send(copy, ANN, 1) == OK
