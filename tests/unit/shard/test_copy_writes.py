"""What the rules want written, as changes of the store."""

from dataclasses import dataclass

import pytest

from shard.clones.cloning import Staged
from shard.counting.changes import Changes
from shard.counting.keys import CopyRecord, generation_ranges, log_key, record_key, staging_key
from shard.counting.op import Counted
from shard.counting.op_body import decode_body, encode_body
from shard.counting.op_log import LogEntry
from shard.engine.copy_writes import changes_of, trimmed
from shard.replica.words import Apply, Install, Op, Rename, Renounce, SetEpoch, Write
from tally.cluster.op_name import OpName
from tests.support.cluster_values import SMALL
from tests.support.copies import ANN, DictCopy, sub_batch
from tests.support.events import click, slot_of_event

SLOT = slot_of_event(click("ann"), SMALL)


@dataclass
class Built:
    """An op, and the copy that it was counted for."""

    before: CopyRecord
    counted: Counted
    op: Op


@pytest.fixture
def built() -> Built:
    copy = DictCopy(SLOT)
    counted = copy.op(sub_batch(ANN, 1, click("ann")))
    name = OpName(1, 1, counted.record.digest)
    return Built(copy.record, counted, Op(name, OpName(), encode_body(counted)))


def everything(groups: list[Changes]) -> dict[bytes, bytes]:
    return {key: value for changes in groups for key, value in changes.puts}


def test_op_means_the_same_where_it_was_counted_and_where_it_was_sent(built: Built) -> None:
    record, here = changes_of(SLOT, built.before, [Apply(built.op)], built.counted)
    sent, there = changes_of(SLOT, built.before, [Apply(built.op)], None)
    assert record == sent
    assert everything(here) == everything(there)


def test_op_is_written_under_the_generation_of_each_copy(built: Built) -> None:
    assert built.op.body is not None
    other = built.before._replace(generation=99)
    record, changes = decode_body(built.op.body, other)
    assert record.generation == 99
    assert {key[1:5] for key, _ in changes.puts} == {(99).to_bytes(4, "big")}


def test_op_is_kept_in_the_log_with_its_predecessor(built: Built) -> None:
    record, groups = changes_of(SLOT, built.before, [Apply(built.op)], None)
    entry = LogEntry.decode(everything(groups)[log_key(built.before.generation, 1)])
    assert (entry.name, entry.previous, entry.body) == built.op
    assert (record.log_from, record.log_bytes) == (1, len(entry.encode()))


def test_op_that_nobody_else_needs_empties_the_log(built: Built) -> None:
    before = built.before._replace(log_from=1, log_bytes=10)
    record, groups = changes_of(SLOT, before, [Apply(built.op._replace(body=None))], built.counted)
    assert (record.log_from, record.log_bytes) == (0, 0)
    generation = before.generation
    assert (log_key(generation, 0), log_key(generation + 1, 0)) in groups[0].range_deletes


def test_each_write_is_a_group_with_its_own_record(built: Built) -> None:
    """A crash between two of them leaves a copy that was: never half of what an op changes."""
    writes: list[Write] = [Rename("cd" * 16, 7), Apply(built.op)]
    record, groups = changes_of(SLOT, built.before, writes, None)
    stored = [CopyRecord.decode(dict(changes.puts)[record_key(SLOT)]) for changes in groups]
    assert [(one.epoch, one.opnum, one.incarnation.hex()) for one in stored] == [(7, 0, "cd" * 16), (7, 1, "cd" * 16)]
    assert stored[-1] == record


def test_renounced_copy_keeps_all_but_its_name(built: Built) -> None:
    """It joins again from its own head, if the op log of another goes back so far."""
    record, groups = changes_of(SLOT, built.before, [Renounce("cd" * 16)], None)
    assert record == built.before._replace(incarnation=bytes.fromhex("cd" * 16))
    assert list(everything(groups)) == [record_key(SLOT)]


def test_higher_epoch_changes_the_record_only(built: Built) -> None:
    record, groups = changes_of(SLOT, built.before, [SetEpoch(9)], None)
    assert record == built.before._replace(epoch=9)
    assert list(everything(groups)) == [record_key(SLOT)]


def test_clone_takes_the_place_of_the_copy_and_of_its_log(built: Built) -> None:
    head = Op(OpName(4, 20, b"d" * 16))
    before = built.before._replace(log_from=1, log_bytes=10)
    record, (changes,) = changes_of(SLOT, before, [Install("cd" * 16, 5, head, Staged(8, 3, 19, 40, 2, 39))], None)
    assert (record.generation, record.epoch, record.opnum, record.writers, record.log_from) == (8, 5, 20, 3, 0)
    assert (record.floor, record.label, record.label_ms, record.keys_label) == (19, 40, 2, 39)
    assert list(changes.range_deletes) == generation_ranges(before.generation)
    assert list(changes.deletes) == [staging_key(8)]


def test_log_forgets_its_older_half_and_never_the_head() -> None:
    record = CopyRecord(3, bytes(16), 1, opnum=109, log_from=100, log_bytes=1000)
    for kept_from in (105, 107, 108, 109):
        record, changes = trimmed(SLOT, record)
        assert record.log_from == kept_from
        assert changes.range_deletes[0][1] == log_key(3, kept_from)
    record, changes = trimmed(SLOT, record)
    assert (record.log_from, record.log_bytes) == (109, 0)
    assert not changes.range_deletes
