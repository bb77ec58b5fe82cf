"""What a copy's rules want written, as changes of the store. Pure.

| write | changes |
|---|---|
| SetEpoch | the record |
| Apply | what the op changes, the record with the new head, the op in the op log if others may need it |
| Rename, Renounce | the record |
| Install | the record, now with the generation of the new copy; the old one's keys go, its op log too (rule 9) |

Each write is one group, whole in itself: after a crash in between, the copy is one that was.
"""

from collections.abc import Sequence

from shard.clones.cloning import Staged
from shard.counting.changes import Changes
from shard.counting.keys import CopyRecord, generation_ranges, log_key, record_key, staging_key
from shard.counting.op import Counted
from shard.counting.op_body import decode_body
from shard.counting.op_log import LogEntry
from shard.replica.words import Apply, Install, Op, Rename, Renounce, SetEpoch, Write


def changes_of(
    slot: int, record: CopyRecord | None, writes: Sequence[Write], counted: Counted | None
) -> tuple[CopyRecord, list[Changes]]:
    """Return the copy's record after the writes of one step, and what to write, in this order.

    Args:
        slot: Whose copy it is.
        record: As it is stored; None if there is none.
        writes: At least one.
        counted: What the op was made of, if it was counted here.
    """
    groups: list[Changes] = []
    for write in writes:
        if isinstance(write, Install):
            record, changes = _installed(record, write)
        else:
            assert record is not None
            record, changes = _changed(record, write, counted)
        groups.append(
            Changes([*changes.puts, (record_key(slot), record.encode())], changes.deletes, changes.range_deletes)
        )
    assert record is not None
    return record, groups


def _changed(
    record: CopyRecord, write: SetEpoch | Apply | Rename | Renounce, counted: Counted | None
) -> tuple[CopyRecord, Changes]:
    match write:
        case SetEpoch(epoch):
            return record._replace(epoch=epoch), Changes([])
        case Rename(incarnation, epoch):
            return record._replace(incarnation=bytes.fromhex(incarnation), epoch=epoch), Changes([])
        case Renounce(incarnation):
            return record._replace(incarnation=bytes.fromhex(incarnation)), Changes([])
        case Apply(op):
            return _applied(record, op, counted)


def _applied(record: CopyRecord, op: Op, counted: Counted | None) -> tuple[CopyRecord, Changes]:
    name = op.name
    if counted is not None and counted.record.digest == name.digest:
        after, changes = counted.record, Changes(counted.puts, counted.deletes, counted.range_deletes)
    else:
        assert op.body is not None
        after, changes = decode_body(op.body, record)
    log_from = log_bytes = 0
    if op.body is not None:
        entry = LogEntry(name, op.previous, op.body).encode()
        log_from, log_bytes = record.log_from or name.opnum, record.log_bytes + len(entry)
        changes = changes._replace(puts=[*changes.puts, (log_key(after.generation, name.opnum), entry)])
    elif record.log_from:
        # Nobody but this copy has it: a log with a gap is of no use.
        whole_log = log_key(after.generation, 0), log_key(after.generation + 1, 0)
        changes = changes._replace(range_deletes=[*changes.range_deletes, whole_log])
    after = after._replace(
        epoch=record.epoch,
        head_epoch=name.epoch,
        opnum=name.opnum,
        digest=name.digest,
        log_from=log_from,
        log_bytes=log_bytes,
    )
    return after, changes


def _installed(record: CopyRecord | None, write: Install) -> tuple[CopyRecord, Changes]:
    staged: Staged = write.content
    old = generation_ranges(record.generation) if record is not None else []
    after = CopyRecord(
        generation=staged.generation,
        incarnation=bytes.fromhex(write.incarnation),
        epoch=write.epoch,
        head_epoch=write.head.name.epoch,
        opnum=write.head.name.opnum,
        digest=write.head.name.digest or bytes(16),
        writers=staged.writers,
        floor=staged.floor,
        label=staged.label,
        label_ms=staged.label_ms,
        keys_label=staged.keys_label,
    )
    return after, Changes([], [staging_key(staged.generation)], old)


def trimmed(slot: int, record: CopyRecord) -> tuple[CopyRecord, Changes]:
    """Return the record, and the changes, of a copy that forgets the older half of its op log."""
    middle = record.log_from + (record.opnum + 1 - record.log_from) // 2
    if middle == record.log_from:  # The head alone, which stays: a new term may need it.
        after = record._replace(log_bytes=0)
        return after, Changes([(record_key(slot), after.encode())])
    after = record._replace(log_from=middle, log_bytes=record.log_bytes // 2)
    old = log_key(record.generation, record.log_from), log_key(record.generation, middle)
    return after, Changes([(record_key(slot), after.encode())], (), [old])
