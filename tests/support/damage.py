"""Damages the database of a shard that does not run, as disks do: one bit, one block, one end."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

from shard.storage.directory import DATABASE

BLOCK: Final = 4096
_WHERE_RECORDS_STAND: Final = 4096  # The first keys of a table: records of copies, then counts, which are read always.

Damage = Callable[[Path, random.Random], str]
"""Damages what is in a data directory; returns what it did."""


def newest_log(data: Path) -> Path:
    """Return the write-ahead log that was written last, of those that hold something."""
    return max(log for log in (data / DATABASE).glob("*.log") if log.stat().st_size)


def flip_a_bit_of_the_log(data: Path, chance: random.Random) -> str:
    """Turn over one bit."""
    log = newest_log(data)
    return _flip(log, chance.randrange(log.stat().st_size), chance)


def zero_a_block_of_the_log(data: Path, chance: random.Random) -> str:
    """Put zeros into one block of the disk."""
    log = newest_log(data)
    content = bytearray(log.read_bytes())
    start = chance.randrange((len(content) + BLOCK - 1) // BLOCK) * BLOCK
    end = min(start + BLOCK, len(content))
    content[start:end] = bytes(end - start)
    log.write_bytes(content)
    return f"{log.name}: zeros at {start}"


def cut_the_log(data: Path, chance: random.Random) -> str:
    """Take its end off."""
    log = newest_log(data)
    content = log.read_bytes()
    end = chance.randrange(len(content))
    log.write_bytes(content[:end])
    return f"{log.name}: cut at {end} of {len(content)}"


def flip_a_bit_of_a_table(data: Path, chance: random.Random) -> str:
    """Turn over one bit where it will be read soon, in the largest table."""
    table = max((data / DATABASE).glob("*.sst"), key=lambda file: file.stat().st_size)
    return _flip(table, chance.randrange(min(_WHERE_RECORDS_STAND, table.stat().st_size)), chance)


def _flip(file: Path, place: int, chance: random.Random) -> str:
    content = bytearray(file.read_bytes())
    content[place] ^= 1 << chance.randrange(8)
    file.write_bytes(content)
    return f"{file.name}: a bit at {place} of {len(content)}"
