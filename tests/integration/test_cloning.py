"""A clone from one real store into another."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from protos.tally.internal.v1 import node_pb2
from shard.clones.cloning import drop_changes
from shard.clones.source import clone_parts
from shard.clones.target import CloneTarget
from shard.counting.changes import Changes
from shard.counting.keys import content_ranges, generation_ranges, log_key, staging_key, without_generation
from shard.replica.words import Cloned
from shard.storage.store import Store
from tally.cluster.op_name import OpName
from tests.support.clones import GENERATION, OWN, content, head_op, logged, name, record

USERS = 30_000
HEAD = 8


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Store]:
    yield from filled(tmp_path / "source", content(GENERATION, users=USERS) + logged(GENERATION, range(3, HEAD + 1)))


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Store]:
    """It has another copy, which is to stay as it is."""
    yield from filled(tmp_path / "target", content(OWN + 1, users=10) + content(OWN - 1, users=10))


def filled(path: Path, entries: list[tuple[bytes, bytes]]) -> Iterator[Store]:
    store = Store(path)
    store.write(Changes([entry]) for entry in entries)
    store.flush()
    yield store
    store.close()


def moved(store: Store, messages: Iterator[node_pb2.CloneResponse]) -> Cloned:
    """Write what comes, message by message."""
    taking = CloneTarget(OWN)
    for message in messages:
        store.write(taking.take(message))
    return taking.finish()


def parts(source: Store, after: OpName | None) -> Generator[node_pb2.CloneResponse, None, None]:
    snapshot = source.snapshot()
    yield from clone_parts(snapshot, record(HEAD, log_from=3), head_op(HEAD), 3, after)
    snapshot.close()


def stored(store: Store, ranges: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(without_generation(key), value) for start, end in ranges for key, value in store.scan(start, end)]


def test_clone_has_the_content_of_the_snapshot_and_nothing_newer(source: Store, target: Store) -> None:
    expected = stored(source, content_ranges(GENERATION))
    messages = parts(source, None)
    cloned = CloneTarget(OWN)
    target.write(cloned.take(next(messages)))
    written = [(key, b"newer") for key, _ in content(GENERATION, users=500)]
    source.write([Changes(written), Changes(content(GENERATION, users=USERS + 500)[-500:], [], [(b"k", b"l")])])
    for message in messages:
        target.write(cloned.take(message))
    assert cloned.finish().granted
    assert len(expected) > 2 * USERS
    assert stored(target, content_ranges(OWN)) == expected
    assert list(target.scan(log_key(OWN, 0), log_key(OWN + 1, 0))) == []
    for other in (OWN - 1, OWN + 1):
        assert sum(1 for _ in stored(target, generation_ranges(other))) == len(content(other, users=10))


def test_interrupted_clone_is_dropped_by_its_marker(source: Store, target: Store) -> None:
    before = list(target.scan(b"", b"\xff"))
    taking = CloneTarget(OWN)
    messages = parts(source, None)
    for _ in range(3):
        target.write(taking.take(next(messages)))
    messages.close()
    assert target.get([staging_key(OWN)]) == [b""]
    assert len(stored(target, generation_ranges(OWN))) > 1_000
    target.write([drop_changes(OWN)])
    assert list(target.scan(b"", b"\xff")) == before


def test_restarted_copy_gets_the_ops_that_it_missed(source: Store, target: Store) -> None:
    before = list(target.scan(b"", b"\xff"))
    cloned = moved(target, parts(source, name(5)))
    assert cloned.ops == tuple(head_op(opnum) for opnum in range(6, HEAD + 1))
    assert list(target.scan(b"", b"\xff")) == before


def test_log_that_goes_while_it_is_read_is_still_sent_whole(source: Store, target: Store) -> None:
    messages = parts(source, name(3))
    first = next(messages)
    source.write([Changes([], [], [(log_key(GENERATION, 0), log_key(GENERATION + 1, 0))])])
    taking = CloneTarget(OWN)
    for message in (first, *messages):
        target.write(taking.take(message))
    assert len(taking.finish().ops or ()) == HEAD - 3


@pytest.mark.parametrize("after", [name(2), name(5, branch=b"b")])
def test_copy_that_is_too_old_or_went_another_way_gets_all(source: Store, target: Store, after: OpName) -> None:
    cloned = moved(target, parts(source, after))
    assert cloned.ops is None
    assert stored(target, content_ranges(OWN)) == stored(source, content_ranges(GENERATION))


def test_log_of_a_generation_that_was_dropped_is_gone(source: Store) -> None:
    source.write([drop_changes(GENERATION)])
    assert stored(source, generation_ranges(GENERATION)) == []
    header = next(parts(source, name(5))).header
    assert not header.catch_up
