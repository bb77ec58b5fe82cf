"""The store on a real RocksDB: what is atomic, what is durable, and what damage looks like."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from rocksdict import Rdict

from shard.counting.changes import WRITE_ENTRIES, Changes
from shard.storage import store as store_module
from shard.storage.links import NOTE_FILE
from shard.storage.store import Store
from tally.errors import DirectoryRefused, StoreBusy, StoreCorrupt, StoreFailed
from tests.support import commands

EVERYTHING: Final = (b"", b"\xff")
KEYS: Final = 5_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rocksdb"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = Store(path)
    yield opened
    opened.close()


def test_values_come_in_the_order_of_the_keys_and_none_for_what_is_not_there(store: Store) -> None:
    store.write([Changes([(b"a", b"1"), (b"b", b""), (b"c", b"3")])])
    assert store.get([b"c", b"x", b"a", b"b", b"c"]) == [b"3", None, b"1", b"", b"3"]
    assert store.get([]) == []


def test_later_group_wins_and_deletes_come_after_puts(store: Store) -> None:
    store.write([Changes([(b"a", b"1"), (b"b", b"1")]), Changes([(b"a", b"2")], [b"b"])])
    assert store.get([b"a", b"b"]) == [b"2", None]


def test_group_is_never_split_between_two_writes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[int] = []
    monkeypatch.setattr(store, "_write_once", lambda groups: writes.append(len(groups)))
    group = Changes([(b"%d" % number, b"") for number in range(300)], [b"x"])
    store.write([group] * 9)
    assert writes == [4, 4, 1]


def test_scan_gives_a_range_without_its_end(store: Store) -> None:
    store.write([Changes([(key, b"v" + key) for key in (b"a", b"b", b"ba", b"c", b"d")])])
    assert list(store.scan(b"b", b"d")) == [(b"b", b"vb"), (b"ba", b"vba"), (b"c", b"vc")]
    assert list(store.scan(b"bb", b"bc")) == []
    assert list(store.scan(b"x", b"z")) == []
    assert [key for key, _ in store.scan(*EVERYTHING)] == [b"a", b"b", b"ba", b"c", b"d"]


def test_snapshot_knows_nothing_of_later_writes(store: Store) -> None:
    """Not so the binding's own: an iterator over one of its snapshots sees what was written before the iterator."""
    store.write([Changes([(b"a", b"1"), (b"b", b"1"), (b"c", b"1")])])
    snapshot = store.snapshot()
    store.write([Changes([(b"a", b"2"), (b"d", b"2")], [b"b"], [(b"c", b"d")])])
    store._db.flush()
    store._db.compact_range(None, None)
    assert list(snapshot.scan(*EVERYTHING)) == [(b"a", b"1"), (b"b", b"1"), (b"c", b"1")]
    assert list(snapshot.scan(b"b", b"c")) == [(b"b", b"1")]
    assert [snapshot.get(key) for key in (b"a", b"b", b"d", b"")] == [b"1", b"1", None, None]
    assert list(store.scan(*EVERYTHING)) == [(b"a", b"2"), (b"d", b"2")]
    snapshot.close()


def test_snapshot_is_read_step_by_step_in_other_threads(store: Store) -> None:
    store.write([Changes([(b"%03d" % number, b"") for number in range(100)])])
    snapshot = store.snapshot()
    entries = snapshot.scan(*EVERYTHING)
    found: list[bytes] = []
    for _ in range(100):
        thread = threading.Thread(target=lambda: found.append(next(entries)[0]))
        thread.start()
        thread.join()
    assert found == [b"%03d" % number for number in range(100)]
    snapshot.close()


def test_closed_snapshot_keeps_nothing(path: Path, store: Store) -> None:
    store.write(Changes([(b"%05d" % number, os.urandom(1000))]) for number in range(1_000))
    store._db.flush()
    snapshot = store.snapshot()
    first = set(path.glob("*.sst"))
    store.write([Changes([], [], [EVERYTHING])])
    store._db.flush()
    store._db.compact_range(None, None)
    assert first <= set(path.glob("*.sst"))
    assert sum(1 for _ in snapshot.scan(*EVERYTHING)) == 1_000
    snapshot.close()
    snapshot.close()
    assert not first & set(path.glob("*.sst"))
    with pytest.raises(AssertionError, match="closed"):
        list(snapshot.scan(*EVERYTHING))


def test_snapshot_does_not_mix_up_two_scans(store: Store) -> None:
    store.write([Changes([(b"a", b"1"), (b"b", b"1")])])
    snapshot = store.snapshot()
    scan = snapshot.scan(*EVERYTHING)
    next(scan)
    snapshot.get(b"a")
    with pytest.raises(AssertionError, match="another scan"):
        next(scan)
    snapshot.close()


def test_data_is_there_after_closing_and_opening(path: Path) -> None:
    first = Store(path)
    first.write([Changes([(b"a", b"1")])])
    first.close()
    second = Store(path)
    assert second.get([b"a"]) == [b"1"]
    second.close()


def test_directory_that_is_open_is_refused(path: Path, store: Store) -> None:
    with pytest.raises(DirectoryRefused, match="another process has it open"):
        Store(path)
    store.write([Changes([(b"a", b"1")])])


def test_directory_that_another_process_has_open_is_refused(path: Path) -> None:
    with writing_process(path), pytest.raises(DirectoryRefused, match="another process has it open"):
        Store(path)


def test_flushed_data_survives_a_kill(path: Path) -> None:
    with writing_process(path) as process:
        process.kill()
        process.wait(10)
    reopened = Store(path)
    assert sum(1 for _ in reopened.scan(*EVERYTHING)) == KEYS
    assert reopened.get([b"k00000", b"k%05d" % (KEYS - 1)]) == [b"v" * 100] * 2
    reopened.close()


def test_log_that_was_cut_short_behind_the_last_flush_is_read_up_to_there(path: Path) -> None:
    """So a power cut leaves it: what came before was flushed, what is cut off was not."""
    with writing_process(path) as process:
        process.kill()
        process.wait(10)
    forget_what_was_flushed(path)
    log = write_ahead_log(path)
    os.truncate(log, log.stat().st_size - 10)
    reopened = Store(path)
    found = [key for key, _ in reopened.scan(*EVERYTHING)]
    assert found == [b"k%05d" % number for number in range(len(found))]
    assert KEYS - WRITE_ENTRIES <= len(found) < KEYS
    reopened.close()


def test_log_that_lost_a_write_that_was_flushed_is_corrupt_however_often_it_is_opened(path: Path) -> None:
    """One that lost its end looks to RocksDB like one that never had it."""
    with writing_process(path) as process:
        process.kill()
        process.wait(10)
    log = write_ahead_log(path)
    os.truncate(log, log.stat().st_size - 10)
    for _ in range(2):
        with pytest.raises(StoreCorrupt, match="writes that were flushed are missing"):
            Store(path)


def test_log_with_damage_in_the_middle_is_corrupt(path: Path) -> None:
    """What follows the damage was acknowledged: to start without it would be to lose it in silence."""
    with writing_process(path) as process:
        process.kill()
        process.wait(10)
    log = write_ahead_log(path)
    damage(log, log.stat().st_size // 2)
    with pytest.raises(StoreCorrupt):
        Store(path)


def test_note_that_is_torn_says_nothing(path: Path) -> None:
    """A power cut may leave it so; the log alone is good."""
    first = Store(path)
    first.write([Changes([(b"a", b"1")])])
    first.close()
    damage(path / NOTE_FILE, 0)
    second = Store(path)
    assert second.get([b"a"]) == [b"1"]
    second.close()


def test_database_without_links_gets_them(path: Path) -> None:
    """An older version made it."""
    path.mkdir()
    database = Rdict(str(path), store_module._options(store_module.CACHE_BYTES))
    database[b"a"] = b"1"
    database.close()
    for _ in range(2):
        store = Store(path)
        assert store.get([b"a"]) == [b"1"]
        store.write([Changes([(b"b", b"2")])])
        store.close()


@contextmanager
def writing_process(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that has written and flushed ``KEYS`` keys, and keeps the store open."""
    command = [sys.executable, "-c", _WRITE_AND_WAIT, str(path), str(KEYS)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=commands.environment(), cwd=path.parent
    )
    with process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"flushed\n"
            yield process
        finally:
            process.kill()


_WRITE_AND_WAIT = """
import sys
from pathlib import Path
from shard.storage.store import Store
from shard.counting.changes import WRITE_ENTRIES, Changes

store = Store(Path(sys.argv[1]))
store.write(Changes([(b"k%05d" % number, b"v" * 100)]) for number in range(int(sys.argv[2])))
store.flush()
print("flushed", flush=True)
sys.stdin.read()
"""


def forget_what_was_flushed(path: Path) -> None:
    """Leave a database as a power cut may: the note is not flushed."""
    (path / NOTE_FILE).unlink()


def write_ahead_log(path: Path) -> Path:
    return max(path.glob("*.log"), key=lambda log: log.stat().st_size)


def damage(file: Path, offset: int) -> None:
    """Turn some bits of a file over."""
    content = bytearray(file.read_bytes())
    for place in range(offset, min(offset + 50, len(content))):
        content[place] ^= 0xFF
    file.write_bytes(content)


@pytest.fixture
def table(path: Path) -> Path:
    """A closed store whose keys stand in a table; returns that file."""
    store = Store(path)
    store.write(Changes([(b"k%05d" % number, os.urandom(100))]) for number in range(10_000))
    store._db.flush()
    store.close()
    return max(path.glob("*.sst"), key=lambda table: table.stat().st_size)  # The other one has the first link.


def test_damaged_table_is_told_by_those_who_read_it(path: Path, table: Path) -> None:
    damage(table, table.stat().st_size // 2)
    store = Store(path)
    with pytest.raises(StoreCorrupt):
        list(store.scan(*EVERYTHING))
    with pytest.raises(StoreCorrupt):
        store.get([b"k%05d" % number for number in range(10_000)])
    snapshot = store.snapshot()
    with pytest.raises(StoreCorrupt):
        list(snapshot.scan(*EVERYTHING))
    snapshot.close()
    store.close()


@pytest.mark.parametrize("before_end", [20, 700])
def test_table_whose_end_is_damaged_is_corrupt_and_not_in_use(path: Path, table: Path, before_end: int) -> None:
    """RocksDB says "block checksum mismatch", in which a "lock" is easily found."""
    damage(table, table.stat().st_size - before_end - 50)
    with pytest.raises(StoreCorrupt):
        Store(path)


def test_table_that_is_gone_is_corrupt(path: Path, table: Path) -> None:
    table.unlink()
    with pytest.raises(StoreCorrupt):
        Store(path)


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST-*"])
@pytest.mark.parametrize("left", [0.0, 0.5, None], ids=["emptied", "cut", "gone"])
def test_database_whose_list_of_tables_is_damaged_is_corrupt(path: Path, name: str, left: float | None) -> None:
    store = Store(path)
    store.write([Changes([(b"a", b"1")])])
    store.close()
    (file,) = path.glob(name)
    if left is None:
        file.unlink()
    else:
        os.truncate(file, int(left * file.stat().st_size))
    with pytest.raises(StoreCorrupt):
        Store(path)


def test_stalls_are_waited_out_and_nothing_is_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(path, 128 * 1024)  # A buffer is full after six of the writes below.
    stalls = count_stalls(store, monkeypatch)
    keys = [b"k%05d" % number for number in range(1_000)]
    for key in keys:
        store.write([Changes([(key, os.urandom(10_000))])])
    assert stalls
    assert [key for key, _ in store.scan(*EVERYTHING)] == keys
    store.close()


def count_stalls(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[StoreBusy]:
    """Return a list to which every stall from now on is added."""
    stalls: list[StoreBusy] = []
    write_once = store._write_once

    def counting(groups: Sequence[Changes]) -> None:
        try:
            write_once(groups)
        except StoreBusy as exc:
            stalls.append(exc)
            raise

    monkeypatch.setattr(store, "_write_once", counting)
    return stalls


def test_stall_without_an_end_is_a_failure(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def stalled(*_: object) -> None:
        raise StoreBusy

    monkeypatch.setattr(store, "_write_once", stalled)
    monkeypatch.setattr(store_module, "STALL_MAX_S", 0.05)
    with pytest.raises(StoreFailed, match="stalled"):
        store.write([Changes([(b"late", b"1")])])


def test_closed_store_fails_and_does_not_pretend(path: Path) -> None:
    store = Store(path)
    store.close()
    with pytest.raises(StoreFailed):
        store.write([Changes([(b"a", b"1")])])
    with pytest.raises(StoreFailed):
        store.flush()
    with pytest.raises(StoreFailed):
        store.get([b"a"])
    with pytest.raises(StoreFailed):
        store.snapshot()
