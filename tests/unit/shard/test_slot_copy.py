"""One copy of a slot: its queue, what is under way, and whether it serves at all."""

import pytest

from protos.tally.internal.v1 import node_pb2
from shard.keys import CopyRecord, Counts, cell_key
from shard.op import OP_EVENTS_MAX, Answer, SubBatch
from shard.slot_copy import Arrived, SlotCopy, Standing, outcome_for, standing
from tally.cluster.slot_map import SlotRow
from tally.hashing import bucket_of
from tests.support.cluster_values import SMALL
from tests.support.copies import ANN, DictCopy, sub_batch
from tests.support.events import HOUR, click, slot_of_event

SLOT = slot_of_event(click("ann"), SMALL)
DIRECTORY = "ab" * 16
ANOTHER = "cd" * 16


def ignore(answer: Answer, epoch: int) -> None:
    """Be nobody's reply."""


def new_copy() -> SlotCopy:
    return SlotCopy(SLOT, CopyRecord(generation=7, incarnation=bytes(16), epoch=1))


def enqueue(copy: SlotCopy, *sizes: int) -> list[SubBatch]:
    batches = [sub_batch(ANN, seq, *[click("ann")] * size) for seq, size in enumerate(sizes, 1)]
    for batch in batches:
        copy.enqueue(Arrived(batch, ignore))
    return batches


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [
        ([1], 1),
        ([1, 2, 3], 3),
        ([OP_EVENTS_MAX], 1),
        ([OP_EVENTS_MAX, 1], 1),
        ([OP_EVENTS_MAX - 1, 1, 1], 2),
        ([600, 600], 1),
        ([600, 600, 1], 1),
        ([OP_EVENTS_MAX + 1], 1),  # Nobody sends it; if it is there, it must not block the queue.
    ],
)
def test_op_takes_as_many_sub_batches_as_fit_in_order(sizes: list[int], taken: int) -> None:
    copy = new_copy()
    batches = enqueue(copy, *sizes)
    assert [arrived.batch for arrived in copy.take()] == batches[:taken]
    assert copy.ready == (taken < len(sizes))


def test_empty_queue_is_not_ready() -> None:
    copy = new_copy()
    assert not copy.ready
    assert copy.take() == []


def test_next_op_waits_for_the_one_under_way() -> None:
    copy, data = new_copy(), DictCopy(SLOT)
    first, second = enqueue(copy, 600, 600)
    copy.take()
    copy.begin(data.apply(first))
    was_ready = copy.ready
    copy.commit()
    assert (was_ready, copy.ready) == (False, True)
    assert [arrived.batch for arrived in copy.take()] == [second]


def test_readers_get_the_counts_from_before_the_op_while_it_is_under_way() -> None:
    copy, data = new_copy(), DictCopy(SLOT)
    first, second = enqueue(copy, 1, 1)
    cell = cell_key(7, HOUR, bucket_of(HOUR, b"ann", SMALL))
    copy.begin(data.apply(first))
    assert copy.before == {cell: None}
    copy.commit()
    assert copy.before == {}
    copy.begin(data.apply(second))
    assert copy.before == {cell: Counts(clicks=1, users=1).encode()}


def test_committed_op_is_the_head_and_not_before() -> None:
    copy, data = new_copy(), DictCopy(SLOT)
    (batch,) = enqueue(copy, 1)
    before = copy.record
    op = data.apply(batch)
    copy.begin(op)
    assert copy.record == before
    copy.commit()
    assert copy.record == op.record


def test_copy_that_serves_no_longer_gives_its_queue_back() -> None:
    copy = new_copy()
    batches = enqueue(copy, 1, 1)
    assert [arrived.batch for arrived in copy.refuse_all()] == batches
    assert not copy.ready


def record(*, epoch: int = 1, incarnation: str = DIRECTORY) -> CopyRecord:
    return CopyRecord(generation=1, incarnation=bytes.fromhex(incarnation), epoch=epoch)


def row(*, epoch: int = 1, primary: str = "s1", **in_sync: str) -> SlotRow:
    return SlotRow(epoch, primary, in_sync or {primary: DIRECTORY})


@pytest.mark.parametrize(
    ("wanted", "stored", "expected"),
    [
        (row(primary="s2"), None, Standing.ELSEWHERE),
        (row(primary="s2"), record(), Standing.ELSEWHERE),
        (row(primary="s2", s1=DIRECTORY, s2=ANOTHER), record(), Standing.ELSEWHERE),
        (row(), None, Standing.FOUNDING),
        (row(s1=ANOTHER), None, Standing.NO_COPY),  # Its directory was emptied since the map was made.
        (row(epoch=2), None, Standing.NO_COPY),  # The slot has been written to, and the data is gone.
        (row(), record(), Standing.SERVING),
        (row(epoch=2), record(), Standing.SERVING),
        (row(epoch=2), record(epoch=2), Standing.SERVING),
        (row(s1=ANOTHER), record(), Standing.NO_COPY),
        (row(epoch=3, s1=ANOTHER), record(), Standing.NO_COPY),
        (row(epoch=1), record(epoch=2), Standing.OUTDATED),
    ],
)
def test_standing_follows_from_the_row_and_what_is_stored(
    wanted: SlotRow, stored: CopyRecord | None, expected: Standing
) -> None:
    assert standing(wanted, stored, "s1", DIRECTORY) is expected


@pytest.mark.parametrize(
    ("row_epoch", "batch_epoch", "expected"),
    [
        (2, 2, node_pb2.OUTCOME_OK),
        (2, 1, node_pb2.OUTCOME_NOT_OWNER),
        (2, 0, node_pb2.OUTCOME_NOT_OWNER),
        (2, 3, node_pb2.OUTCOME_NOT_READY),
    ],
)
def test_epoch_of_the_sender_decides_what_it_is_told(
    row_epoch: int, batch_epoch: int, expected: node_pb2.Outcome.ValueType
) -> None:
    assert outcome_for(row_epoch, batch_epoch) == expected
