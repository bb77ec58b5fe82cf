"""What the faulty disk of the fault tests does, on a store alone: a fault that does not happen proves nothing."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from shard.storage.links import NOTE_FILE
from shard.storage.store import Store
from tests.support import commands
from tests.support.faulty_disk import FaultyDisk

FLUSHED: Final = 50
SLOW_MS: Final = 300
SEEDS: Final = range(4)

_WRITE: Final = """
import sys
from pathlib import Path
from shard.storage.store import Store
from shard.counting.changes import Changes

store, flushed = Store(Path(sys.argv[1])), int(sys.argv[2])
for number in range(2 * flushed):
    store.write([Changes([(b"k%05d" % number, b"v" * 2_000)])])
    if number + 1 == flushed:
        print("ready", flush=True)
        sys.stdin.readline()
        store.flush()
print("written", flush=True)
sys.stdin.read()
"""


@contextmanager
def writing(disk: FaultyDisk, data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that has written, and flushes when it gets a line; then it writes as much again."""
    data.mkdir(exist_ok=True)
    command = [sys.executable, "-c", _WRITE, str(data / "rocksdb"), str(FLUSHED)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=commands.environment() | disk.env,
    )
    with process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def goes_on(process: subprocess.Popen[bytes]) -> bytes:
    """Let it flush; return what it says then."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    return process.stdout.readline()


@pytest.mark.parametrize("seed", SEEDS)
def test_power_cut_leaves_what_was_flushed_and_a_beginning_of_the_rest(tmp_path: Path, seed: int) -> None:
    disk, data = FaultyDisk.build(tmp_path / "disk"), tmp_path / "data"
    with writing(disk, data) as process:
        assert goes_on(process) == b"written\n"
        process.kill()
        process.wait(10)
    assert disk.power_cut(data, random.Random(seed)) > 0
    assert not (data / "rocksdb" / NOTE_FILE).exists()
    store = Store(data / "rocksdb")
    found = [key for key, _ in store.scan(b"", b"\xff")]
    store.close()
    assert found == [b"k%05d" % number for number in range(len(found))]
    assert FLUSHED <= len(found) < 2 * FLUSHED


def test_flush_fails_once(tmp_path: Path) -> None:
    disk = FaultyDisk.build(tmp_path / "disk")
    with writing(disk, tmp_path / "data") as process:
        disk.fail_once()
        assert goes_on(process) == b""
        assert process.stderr is not None
        assert b"StoreFailed" in process.stderr.read()
    assert disk.has_failed
    with writing(disk, tmp_path / "data") as process:
        assert goes_on(process) == b"written\n"


def test_slow_flush_takes_its_time(tmp_path: Path) -> None:
    disk = FaultyDisk.build(tmp_path / "disk")
    with writing(disk, tmp_path / "data") as process:
        disk.slow(SLOW_MS)
        began = time.monotonic()
        assert goes_on(process) == b"written\n"
        assert time.monotonic() - began >= SLOW_MS / 1000
