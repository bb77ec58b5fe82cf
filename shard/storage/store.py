"""RocksDB, by the rules that its Python binding needs. The one file that imports rocksdict.

Invariants:
  * a group of changes is written whole or not at all, also over a crash;
  * nothing is durable before ``flush`` has returned;
  * what is there after an opening is what was written up to some moment, and all that was flushed: see ``links``;
  * an error in writing or flushing is *unknown*: what was written may be there after the next start.

All methods block; the engine calls them in threads. ``get`` and ``flush`` release the GIL.
"""

import contextlib
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from shard.counting.changes import WRITE_ENTRIES, Changes
from shard.storage.links import LINKS, Note, last_write, link_key
from tally.errors import DirectoryRefused, StoreBusy, StoreCorrupt, StoreFailed

STALL_MAX_S: Final = 20.0
STALL_PAUSE_S: Final = 0.01
CACHE_BYTES: Final = 64 * 2**20

# How RocksDB's errors are told apart: rocksdict passes on their text, and nothing else.
_STALLED: Final = "Result incomplete: Write stall"
# A file of a database that is gone is damage too.
_CORRUPT: Final = re.compile("Corruption|^IO error: No such file or directory: While opening a file for ")
_LOCKED: Final = re.compile("^IO error: (While lock file|lock hold by current process)")


class Store:
    """An open database."""

    def __init__(self, path: Path, cache_bytes: int = CACHE_BYTES) -> None:
        """Open or make the database in ``path``; all that it holds then is durable.

        Args:
            path: Its directory.
            cache_bytes: For blocks that were read; each of three buffers for what was written may take half of it.

        Raises:
            DirectoryRefused: Another process has it open.
            StoreCorrupt: It is damaged, or writes are missing.
            StoreFailed: It can't be opened: no permission, no room, too many files.
        """
        try:
            self._db = Rdict(str(path), _options(cache_bytes))
            self._note = Note.open(path)
        except Exception as exc:
            if _LOCKED.search(str(exc)):
                raise DirectoryRefused(str(path), "another process has it open") from exc
            _raise(exc)
        self._write_options = WriteOptions()
        # A stall then fails at once; waiting inside RocksDB would hold the GIL.
        self._write_options.no_slowdown = True
        self._write_lock = threading.Lock()
        try:
            self._last = last_write([key for key, _ in self.scan(*LINKS)], self._note.read())
            if not self._last:
                self._begin_links()
            # What a crash left in the log was read back; whether it was ever on the disk is not known. Now it is.
            self.flush()
        except BaseException:
            with contextlib.suppress(Exception):  # A damaged one may not close well; what was found first counts.
                self.close()
            raise

    def _begin_links(self) -> None:
        """Put the first link into a table: in the log it could be lost together with the writes that follow it."""
        self._write_once([Changes(())])
        try:
            self._db.flush()
        except Exception as exc:  # noqa: BLE001 - rocksdict raises plain exceptions.
            _raise(exc)

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the stored value of each key, None where there is none.

        Raises:
            StoreCorrupt: A block does not have its checksum.
            StoreFailed: The disk can't be read.
        """
        try:
            values: list[bytes | None] = self._db.get(list(keys)) or []
        except Exception as exc:  # noqa: BLE001 - rocksdict raises plain exceptions.
            _raise(exc)
        return values

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values from ``start`` up to, without, ``end``.

        Raises:
            StoreCorrupt: The range can't be read to its end.
        """
        # An iterator does not keep its options alive, so both are held here.
        options = ReadOptions()
        yield from _entries(self._db.iter(options), start, end)

    def snapshot(self) -> "Snapshot":
        """Return all that was written before this call, as it is now; close it, or its memory and files are kept.

        Raises:
            StoreFailed: The store is closed.
        """
        try:
            return Snapshot(self._db)
        except Exception as exc:
            raise StoreFailed(_reason(exc)) from exc

    def write(self, groups: Iterable[Changes]) -> None:
        """Write each group atomically, in order; not durable yet. Waits out a stall of up to ``STALL_MAX_S``.

        Raises:
            StoreCorrupt: RocksDB found damage, perhaps while it put tables together.
            StoreFailed: RocksDB can't write, or is stalled for too long. What was written is unknown.
        """
        together: list[Changes] = []
        entries = 0
        for changes in groups:
            together.append(changes)
            entries += len(changes.puts) + len(changes.deletes) + len(changes.range_deletes)
            if entries >= WRITE_ENTRIES:
                self._write(together)
                together, entries = [], 0
        if entries:
            self._write(together)

    def _write(self, groups: Sequence[Changes]) -> None:
        give_up_at = time.monotonic() + STALL_MAX_S
        while True:
            try:
                return self._write_once(groups)
            except StoreBusy as exc:
                if time.monotonic() >= give_up_at:
                    raise StoreFailed(f"stalled for {STALL_MAX_S:.0f} s") from exc
                time.sleep(STALL_PAUSE_S)

    def _write_once(self, groups: Sequence[Changes]) -> None:
        batch = WriteBatch(raw_mode=True)  # A new one each time: a write uses it up, also one that failed.
        for changes in groups:
            for key, value in changes.puts:
                batch.put(key, value)
            for key in changes.deletes:
                batch.delete(key)
            for start, end in changes.range_deletes:
                batch.delete_range(start, end)
        with self._write_lock:  # The log has the writes in the order of their numbers.
            batch.put(link_key(self._last + 1), b"")
            batch.delete(link_key(self._last))
            try:
                self._db.write(batch, self._write_options)
            except Exception as exc:
                if _STALLED in str(exc):
                    raise StoreBusy from exc
                _raise(exc)
            self._last += 1

    def flush(self) -> None:
        """Make everything durable that was written before this call began.

        Raises:
            StoreCorrupt: RocksDB found damage.
            StoreFailed: It may or may not be durable.
        """
        covered = self._last
        try:
            self._db.flush_wal(True)
            self._note.write(covered)
        except Exception as exc:  # noqa: BLE001 - rocksdict raises plain exceptions.
            _raise(exc)

    def close(self) -> None:
        """Flush and close."""
        self._db.close()
        self._note.close()


class Snapshot:
    """The store as it was at one moment. May be used in any thread, by one at a time.

    It is an iterator, which sees what was there when it was made, and nothing else. The snapshots of rocksdict 0.3.29
    are of no use: an iterator over one of them sees what was written between the two.

    While it is open, files that were compacted away stay on the disk, and a store that is closed stays locked.
    """

    def __init__(self, db: Rdict) -> None:
        self._options = ReadOptions()  # Held: an iterator does not keep it alive.
        # What is read once only drives nothing out that is read often. The binding's types forget the argument.
        self._options.fill_cache(False)  # type: ignore[call-arg]
        self._iterator: RdictIter | None = db.iter(self._options)
        self._scans = 0

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values from ``start`` up to, without, ``end``; only the scan that began last may go on.

        Raises:
            StoreCorrupt: The range can't be read to its end.
        """
        assert self._iterator is not None, "closed"
        self._scans += 1
        this_one = self._scans
        for entry in _entries(self._iterator, start, end):
            yield entry
            assert self._iterator is not None, "closed"
            assert self._scans == this_one, "another scan has moved the iterator"

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a key, None where there is none; ends a scan that is under way.

        Raises:
            StoreCorrupt: It can't be read.
        """
        return next((value for _, value in self.scan(key, key + b"\0")), None)

    def close(self) -> None:
        """Let go of what was kept; safe to repeat. A scan that is under way keeps it until that is closed too."""
        self._iterator = None


def _entries(iterator: RdictIter, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield what an iterator finds from ``start`` up to, without, ``end``."""
    iterator.seek(start)
    while iterator.valid():
        key = iterator.key()
        if key >= end:
            return
        yield key, iterator.value()
        iterator.next()
    try:
        iterator.status()  # An iterator ends silently where it meets damage.
    except Exception as exc:  # noqa: BLE001 - rocksdict raises plain exceptions.
        _raise(exc)


def _options(cache_bytes: int) -> Options:
    table = BlockBasedOptions()
    table.set_bloom_filter(10, False)
    table.set_block_cache(Cache(cache_bytes))
    # Filters and indexes count towards the cache, so that memory does not grow with the number of users.
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(table)
    # Up to the first damage: a power cut may leave some behind the last flush. What was flushed, the links tell.
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    options.set_compression_type(DBCompressionType.lz4())
    options.set_write_buffer_size(cache_bytes // 2)
    options.set_max_write_buffer_number(3)
    options.set_max_total_wal_size(256 * 2**20)
    options.set_max_background_jobs(2)
    options.set_max_open_files(512)
    options.set_keep_log_file_num(4)
    options.set_max_log_file_size(16 * 2**20)
    return options


def _raise(exc: Exception) -> NoReturn:
    if _CORRUPT.search(str(exc)):
        raise StoreCorrupt(_reason(exc)) from exc
    raise StoreFailed(_reason(exc)) from exc


def _reason(exc: Exception) -> str:
    return f"RocksDB: {exc}"
