"""A clone without a store: what is given to whom, and what a joiner refuses to believe."""

from collections.abc import Callable
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.tally.internal.v1 import node_pb2
from shard.clones import source as clone_source
from shard.clones.cloning import CATCH_UP_BYTES_MAX, CHUNK_BYTES, CloneBroken, Staged, drop_changes, head_name
from shard.clones.source import clone_parts, refusal
from shard.clones.target import CloneTarget
from shard.counting.changes import WRITE_ENTRIES
from shard.counting.keys import generation_ranges, log_key, record_key, staging_key, with_generation, without_generation
from shard.counting.op_log import LogEntry
from shard.replica.wire import op_to_wire
from shard.replica.words import Cloned, Op
from tally.cluster.op_name import NOTHING, OpName
from tally.errors import StoreCorrupt
from tests.support.clones import GENERATION, OWN, Still, content, head_op, logged, name, received, record

Messages = list[node_pb2.CloneResponse]

LOG = logged(GENERATION, range(3, 9))


def parts(still: Still, opnum: int, after: OpName | None = None, *, log_from: int = 0) -> Messages:
    return list(clone_parts(still, record(opnum, log_from=log_from), head_op(opnum), 3, after))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clone_source, "CHUNK_BYTES", 2_000)


@pytest.fixture
def snapshot_parts(small_chunks: None) -> Messages:  # noqa: ARG001
    return parts(Still(content(GENERATION, users=100)), 8)


@pytest.fixture
def catch_up_parts(small_chunks: None) -> Messages:  # noqa: ARG001
    return parts(Still(logged(GENERATION, range(3, 9), body=b"b" * 900)), 8, name(3), log_from=3)


def test_head_of_a_copy_without_ops_is_nothing() -> None:
    assert head_name(record(0)) == NOTHING
    assert head_name(record(8)) == name(8)


def test_all_content_arrives_under_the_new_generation(snapshot_parts: Messages) -> None:
    cloned, changes = received(snapshot_parts)
    assert cloned == Cloned(
        granted=True,
        epoch=3,
        head=head_op(8),
        content=Staged(OWN, writers=100, floor=900, label=20_001, label_ms=1_000, keys_label=20_000),
    )
    puts = [put for group in changes for put in group.puts]
    assert puts[0] == (staging_key(OWN), b"")
    expected = [(with_generation(OWN, without_generation(key)), value) for key, value in content(GENERATION, users=100)]
    assert sorted(puts[1:]) == sorted(expected)


def test_log_and_other_generations_stay_where_they_are() -> None:
    others = [*content(GENERATION - 1, users=5), *content(GENERATION + 1, users=5), *LOG, (record_key(0), b"record")]
    _, changes = received(parts(Still([*content(GENERATION, users=3), *others]), 8, log_from=3))
    assert sum(len(group.puts) for group in changes) == 1 + len(content(GENERATION, users=3))


def test_no_group_of_changes_is_larger_than_one_write() -> None:
    _, changes = received(parts(Still(content(GENERATION, users=3_000)), 8))
    assert max(len(group.puts) for group in changes) == WRITE_ENTRIES


def test_one_chunk_is_read_at_a_time() -> None:
    still = Still(content(GENERATION, users=30_000))
    given = clone_parts(still, record(8), head_op(8), 3, None)
    next(given)
    assert still.read == 0
    before = 0
    for message in given:
        assert message.ByteSize() <= CHUNK_BYTES * 1.1
        assert still.read - before <= CHUNK_BYTES / 10
        before = still.read
    assert still.read == len(still.entries)


def test_empty_slot_is_a_clone_without_entries() -> None:
    messages = parts(Still([]), 0)
    cloned, changes = received(messages)
    assert len(messages) == 2
    assert changes == []
    assert cloned.head.name == NOTHING
    assert cloned.ops is None
    assert cloned.content.generation == OWN


def test_refusal_grants_nothing() -> None:
    assert received([refusal()]) == (Cloned(granted=False), [])


@pytest.mark.parametrize("after", range(3, 9))
def test_copy_whose_head_is_in_the_log_gets_the_ops_after_it(after: int) -> None:
    cloned, changes = received(parts(Still(LOG), 8, name(after), log_from=3))
    assert changes == []
    assert cloned.granted
    assert cloned.epoch == 3
    assert cloned.head == head_op(8)
    assert cloned.ops == tuple(head_op(opnum) for opnum in range(after + 1, 9))


def test_copy_with_the_head_needs_no_log() -> None:
    assert received(parts(Still([]), 8, name(8)))[0].ops == ()
    assert received(parts(Still([]), 0, NOTHING))[0].ops == ()


@pytest.mark.parametrize(
    "after",
    [
        None,
        NOTHING,
        name(2),  # Not in the log any more.
        name(9),  # Has more than we do.
        name(5, branch=b"b"),  # H11: the same number, and another op.
        name(5, epoch=2),
        name(8, branch=b"b"),
    ],
)
def test_copy_with_another_head_gets_all(after: OpName | None) -> None:
    still = Still([*content(GENERATION, users=1), *LOG])
    assert received(parts(still, 8, after, log_from=3))[0].ops is None


@pytest.mark.parametrize("opnum", range(4, 9))
def test_log_with_a_gap_is_of_no_use(opnum: int) -> None:
    broken = dict(LOG)
    del broken[log_key(GENERATION, opnum)]
    assert received(parts(Still(broken.items()), 8, name(3), log_from=3))[0].ops is None


@pytest.mark.parametrize("opnum", range(4, 9))
def test_log_with_an_op_of_another_branch_is_of_no_use(opnum: int) -> None:
    stray = LogEntry(name(opnum, branch=b"b"), name(opnum - 1), b"body").encode()
    broken = dict(LOG) | {log_key(GENERATION, opnum): stray}
    assert received(parts(Still(broken.items()), 8, name(3), log_from=3))[0].ops is None


def test_op_whose_body_was_not_kept_can_not_be_caught_up_with() -> None:
    still = Still((dict(LOG) | dict(logged(GENERATION, [5], body=b""))).items())
    assert received(parts(still, 8, name(4), log_from=3))[0].ops is None


def test_log_of_a_dropped_generation_is_not_found() -> None:
    """H12: what it held may never have been committed."""
    still = Still(logged(GENERATION - 1, range(3, 9)))
    assert received(parts(still, 8, name(5), log_from=3))[0].ops is None


def test_of_more_ops_than_fit_into_memory_the_first_are_sent_and_the_rest_when_it_calls_again() -> None:
    """Each round is shorter than the one before; a whole clone would take longer than what came meanwhile."""
    body = bytes(CATCH_UP_BYTES_MAX // 4 - 100)
    still = Still(logged(GENERATION, range(1, 13), body=body))
    after = name(2)
    for opnums in ([3, 4, 5, 6], [7, 8, 9, 10], [11, 12]):
        cloned = received(parts(still, 12, after, log_from=1))[0]
        assert cloned.ops is not None
        assert [op.name.opnum for op in cloned.ops] == opnums
        assert cloned.head.name == cloned.ops[-1].name
        after = cloned.head.name
    assert after == name(12)


def test_damaged_log_is_told() -> None:
    with pytest.raises(StoreCorrupt):
        parts(Still([*LOG, (log_key(GENERATION, 5), b"x")]), 8, name(3), log_from=3)


def test_progress_is_told_in_bytes(snapshot_parts: Messages) -> None:
    target = CloneTarget(OWN)
    for message in snapshot_parts:
        before = target.bytes_so_far
        target.take(message)
        assert target.bytes_so_far == before + message.ByteSize()


@pytest.mark.parametrize("which", ["snapshot_parts", "catch_up_parts"])
def test_stream_that_lost_repeated_or_swapped_a_message_is_broken(which: str, request: pytest.FixtureRequest) -> None:
    messages: Messages = request.getfixturevalue(which)
    assert len(messages) >= 5
    received(messages)
    for place in range(len(messages)):
        must_break([*messages[:place], *messages[place + 1 :]])
        must_break([*messages[: place + 1], *messages[place:]])
        must_break(messages[:place])
        if place:
            before, here = messages[place - 1 : place + 1]
            must_break([*messages[: place - 1], here, before, *messages[place + 1 :]])


def must_break(messages: Messages) -> None:
    with pytest.raises(CloneBroken):
        received(messages)


@pytest.mark.parametrize("bit", range(0, 8_000, 501))
def test_damaged_chunk_is_broken(snapshot_parts: Messages, bit: int) -> None:
    damaged = bytearray(snapshot_parts[1].entries.columns)
    damaged[bit // 8] ^= 1 << bit % 8
    snapshot_parts[1].entries.columns = bytes(damaged)
    with pytest.raises(CloneBroken, match="damaged chunk"):
        received(snapshot_parts)


def entries(columns: bytes) -> node_pb2.CloneResponse:
    return node_pb2.CloneResponse(entries=node_pb2.CloneEntries(columns=columns, crc=crc32(columns)))


def columns(*keys: bytes, values: int = 1) -> node_pb2.CloneResponse:
    return entries(node_pb2.EntryColumns(keys=keys, values=[b""] * values).SerializeToString())


@pytest.mark.parametrize(
    "chunk", [entries(b"\xff"), columns(b"h1", values=2), columns(b""), columns(b"c\0\0"), columns(b"o"), columns(b"t")]
)
def test_chunk_that_no_source_makes_is_broken(snapshot_parts: Messages, chunk: node_pb2.CloneResponse) -> None:
    """A key of another kind would overwrite what is not of this copy."""
    target = CloneTarget(OWN)
    target.take(snapshot_parts[0])
    with pytest.raises(CloneBroken):
        target.take(chunk)


def test_count_and_digest_must_both_be_right(snapshot_parts: Messages) -> None:
    end = snapshot_parts[-1].end
    end.count += 1
    with pytest.raises(CloneBroken, match="entries of"):
        received(snapshot_parts)
    end.count -= 1
    end.digest = bytes(16)
    with pytest.raises(CloneBroken, match="another digest"):
        received(snapshot_parts)


def _no_epoch(header: node_pb2.CloneHeader) -> None:
    header.epoch = 0


def _short_digest(header: node_pb2.CloneHeader) -> None:
    header.head.name.digest = b"short"


def _no_digest(header: node_pb2.CloneHeader) -> None:
    header.head.name.digest = b""


def _short_previous(header: node_pb2.CloneHeader) -> None:
    header.head.previous.digest = b"short"


def _not_the_next(header: node_pb2.CloneHeader) -> None:
    header.head.previous.opnum = 5


def _body_of_nothing(header: node_pb2.CloneHeader) -> None:
    header.head.ClearField("name")


@pytest.mark.parametrize(
    "spoil", [_no_epoch, _short_digest, _no_digest, _short_previous, _not_the_next, _body_of_nothing]
)
def test_malformed_header_is_broken(snapshot_parts: Messages, spoil: Callable[[node_pb2.CloneHeader], None]) -> None:
    spoil(snapshot_parts[0].header)
    with pytest.raises(CloneBroken, match="malformed header"):
        received(snapshot_parts)


def test_head_of_which_only_the_name_is_known_is_taken() -> None:
    """A slot of one copy keeps no ops, and after a restart it has nothing but the name in its record."""
    head = Op(name(8))
    cloned, _ = received(clone_parts(Still([]), record(8), head, 3, None))
    assert cloned.head == head


def test_op_without_a_body_is_broken(catch_up_parts: Messages) -> None:
    catch_up_parts[1].ops.ops[0].body = b""
    with pytest.raises(CloneBroken, match="malformed op"):
        received(catch_up_parts)


def test_ops_that_lead_elsewhere_are_broken(catch_up_parts: Messages) -> None:
    catch_up_parts[0].header.head.CopyFrom(op_to_wire(head_op(9)))
    with pytest.raises(CloneBroken, match="head"):
        received(catch_up_parts)


def test_ops_without_an_end_do_not_fill_the_memory(catch_up_parts: Messages) -> None:
    target = CloneTarget(OWN)
    target.take(catch_up_parts[0])
    ops = [op_to_wire(head_op(opnum)._replace(body=bytes(CHUNK_BYTES))) for opnum in range(1, 33)]
    *fitting, last = [node_pb2.CloneResponse(ops=node_pb2.CloneOps(ops=[op])) for op in ops]
    for message in fitting:
        target.take(message)
    assert 2 * CATCH_UP_BYTES_MAX - CHUNK_BYTES < target.bytes_so_far < 2 * CATCH_UP_BYTES_MAX
    with pytest.raises(CloneBroken, match="more ops"):
        target.take(last)


def test_message_after_a_refusal_is_broken(snapshot_parts: Messages) -> None:
    with pytest.raises(CloneBroken):
        received([refusal(), *snapshot_parts[1:]])


def test_dropping_removes_every_key_and_the_marker() -> None:
    changes = drop_changes(OWN)
    assert changes.deletes == [staging_key(OWN)]
    assert changes.range_deletes == generation_ranges(OWN)


@given(st.lists(st.binary(max_size=40), max_size=5), st.booleans())
def test_garbage_for_entries_is_broken_and_nothing_else(garbage: list[bytes], empty: bool) -> None:
    messages = parts(Still([] if empty else content(GENERATION, users=1)), 8)
    messages[1:1] = [entries(columns) for columns in garbage if columns]
    if len(messages) == 2 + (not empty):
        received(messages)
    else:
        must_break(messages)
