"""A log that was damaged at random: what is there after it is what was written up to some write, or it is refused.

The logs are real, and so is RocksDB. What must never be: a write is missing, and a later one is there.
"""

import random
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from rocksdict import Rdict

from shard.storage import store as store_module
from shard.storage.links import LINKS, NOTE_FILE
from shard.storage.store import Store
from tally.errors import StoreCorrupt
from tests.support import commands

BLOCK: Final = 4096  # Of a disk.
LOG_BLOCK: Final = 32_768  # Of RocksDB's log: no record's part crosses its end.
WRITES: Final = 300
DAMAGES: Final = 3  # Of each kind, another three in each run.

# A record of 1024 bytes holds a value of 971. Such records end where blocks do, and zeros break none in the middle.
_WRITE: Final = """
import random
import sys
from pathlib import Path
from shard.storage.store import Store
from shard.counting.changes import Changes

store, writes, sizes = Store(Path(sys.argv[1])), int(sys.argv[2]), [int(size) for size in sys.argv[4].split()]
chance = random.Random(sys.argv[3])
for number in range(writes):
    store.write([Changes([(b"k%06d" % number, b"v" * chance.choice(sizes))])])
    store.flush()
print("flushed", flush=True)
sys.stdin.read()
"""

Damage = Callable[[bytearray, random.Random], None]


def flip_a_bit(log: bytearray, chance: random.Random) -> None:
    log[chance.randrange(len(log))] ^= 1 << chance.randrange(8)


def flip_a_bit_of_the_last_record(log: bytearray, chance: random.Random) -> None:
    log[len(log) - 1 - chance.randrange(8)] ^= 1 << chance.randrange(8)


def zero_a_block(log: bytearray, chance: random.Random) -> None:
    zero(log, chance.randrange(len(log) // BLOCK) * BLOCK, BLOCK)


def zero_a_block_of_the_log(log: bytearray, chance: random.Random) -> None:
    zero(log, chance.randrange(len(log) // LOG_BLOCK) * LOG_BLOCK, LOG_BLOCK)


def zero_the_end(log: bytearray, chance: random.Random) -> None:
    zero(log, chance.randrange(len(log)), len(log))


def cut_the_end_off(log: bytearray, chance: random.Random) -> None:
    del log[chance.randrange(len(log)) :]


def cut_blocks_off(log: bytearray, chance: random.Random) -> None:
    del log[chance.randrange(len(log) // BLOCK) * BLOCK :]


def take_a_block_out(log: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(log) // LOG_BLOCK) * LOG_BLOCK
    del log[start : start + LOG_BLOCK]


def garble_the_length_of_a_record(log: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(log) // LOG_BLOCK) * LOG_BLOCK
    log[start + 4 : start + 6] = chance.randbytes(2)


def zero(log: bytearray, start: int, size: int) -> None:
    end = min(start + size, len(log))
    log[start:end] = bytes(end - start)


KINDS: Final[tuple[Damage, ...]] = (
    flip_a_bit,
    flip_a_bit_of_the_last_record,
    zero_a_block,
    zero_a_block_of_the_log,
    zero_the_end,
    cut_the_end_off,
    cut_blocks_off,
    take_a_block_out,
    garble_the_length_of_a_record,
)


@pytest.fixture(scope="module")
def seed() -> int:
    return secrets.randbits(32)


@pytest.fixture(scope="module", params=["971", "10 200 3000"], ids=["records of one size", "of several sizes"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, seed: int) -> Path:
    """The database of a process that was killed after it had flushed ``WRITES`` writes."""
    path = tmp_path_factory.mktemp("written") / "rocksdb"
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITE, str(path), str(WRITES), str(seed), request.param],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=commands.environment(),
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"flushed\n"
        process.kill()
    return path


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("noted", [True, False], ids=["noted", "note lost"])
def test_damaged_log_gives_a_beginning_of_what_was_written_or_is_refused(
    tmp_path: Path, written: Path, seed: int, kind: Damage, *, noted: bool
) -> None:
    print(f"seed {seed}")  # noqa: T201 - pytest shows it with the failure.
    chance = random.Random(f"{seed} {kind.__name__}")
    for number in range(DAMAGES):
        path = tmp_path / str(number)
        shutil.copytree(written, path)
        log = max(path.glob("*.log"), key=lambda file: file.stat().st_size)
        content = bytearray(log.read_bytes())
        kind(content, chance)
        damaged = bytes(content) != log.read_bytes()
        log.write_bytes(content)
        if not noted:
            (path / NOTE_FILE).unlink()
        found = keys_of(path)
        if found is not None:
            assert found == [b"k%06d" % one for one in range(len(found))]
            # Zeros at the very end, and the like, do no harm.
            assert len(found) == WRITES or (damaged and not noted)
        shutil.rmtree(path)


def keys_of(path: Path) -> list[bytes] | None:
    """Return all keys of a database, None if it is refused as damaged."""
    try:
        store = Store(path)
    except StoreCorrupt:
        return None
    try:
        return [key for key, _ in store.scan(b"", LINKS[0])]
    finally:
        store.close()


@pytest.mark.parametrize("written", ["971"], indirect=True, ids=["records of one size"])
def test_rocksdb_alone_passes_over_zeros_without_a_word(tmp_path: Path, written: Path) -> None:
    """Why there are links. If this fails one day, RocksDB has learnt to tell."""
    path = tmp_path / "rocksdb"
    shutil.copytree(written, path)
    log = max(path.glob("*.log"), key=lambda file: file.stat().st_size)
    content = bytearray(log.read_bytes())
    zero(content, 5 * LOG_BLOCK, LOG_BLOCK)
    log.write_bytes(content)
    database = Rdict(str(path), store_module._options(store_module.CACHE_BYTES))
    found = [key for key in database.keys() if isinstance(key, bytes) and key < LINKS[0]]  # noqa: SIM118 - no dict.
    database.close()
    assert (len(found), found[-1]) == (WRITES - LOG_BLOCK // 1024, b"k%06d" % (WRITES - 1))
    with pytest.raises(StoreCorrupt, match="writes are missing between"):
        Store(path)
