"""A range that is removed from a real RocksDB: whole with what is written beside it, and for good."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shard.counting.changes import Changes
from shard.counting.keys import known_key, known_keys_before, writer_key
from shard.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "rocksdb")
    yield opened
    opened.close()


def test_range_is_removed_without_its_end(store: Store) -> None:
    store.write([Changes([(key, b"") for key in (b"a", b"b", b"ba", b"c")])])
    store.write([Changes([(b"d", b"")], range_deletes=[(b"b", b"c"), (b"x", b"y")])])
    assert [key for key, _ in store.scan(b"a", b"z")] == [b"a", b"c", b"d"]
    assert store.get([b"a", b"b", b"ba", b"c", b"d"]) == [b"", None, None, b"", b""]


def test_group_of_nothing_but_a_range_is_written(store: Store) -> None:
    store.write([Changes([(b"a", b"")])])
    store.write([Changes([], range_deletes=[(b"a", b"b")])])
    assert store.get([b"a"]) == [None]


def test_keys_of_days_gone_by_are_removed_and_stay_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "rocksdb")
    days = [known_key(7, day, bytes([day]) * 16) for day in range(5)]
    others = [known_key(6, 0, bytes(16)), known_key(8, 0, bytes(16)), writer_key(7, bytes(16))]
    store.write([Changes([(key, b"") for key in (*days, *others)])])
    store.write([Changes([], range_deletes=[known_keys_before(7, 3)])])
    store.close()
    again = Store(tmp_path / "rocksdb")
    assert again.get([*days, *others]) == [None] * 3 + [b""] * 5
    again.close()
