"""A faulty disk for one shard: fsyncs that are slow or fail, and power cuts. A small library in C, preloaded.

What a power cut is here: each file keeps what it had when it was flushed last, and perhaps a part of what was written
after that; files that were never flushed are gone. Creating, renaming and removing a file counts as durable at once,
like with a journal. What was written over is not modelled: only a note that may be lost is.
"""

import os
import random
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import pytest

_SOURCE: Final = Path(__file__).with_suffix(".c")


class FaultyDisk:
    """One shard's disk; give ``env`` to the process."""

    def __init__(self, library: Path, control: Path) -> None:
        """Take over what ``build`` made."""
        self.env = {"LD_PRELOAD": str(library), "FAULTY_DISK": str(control)}
        self._control = control
        self._ledger = control / "ledger"

    @classmethod
    def build(cls, directory: Path) -> Self:
        """Compile the library into a directory, which is made; skip the test where there is no compiler."""
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler (cc) to build the faulty disk with")
        directory.mkdir(parents=True)
        library = directory / "faulty_disk.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"], check=True)
        disk = cls(library, directory)
        disk._ledger.touch()
        return disk

    def slow(self, ms: int) -> None:
        """Let each flush begin so many milliseconds later; 0: at once."""
        draft = self._control / "slow.new"
        draft.write_text(str(ms))
        draft.rename(self._control / "slow")

    def fail_once(self) -> None:
        """Let the next flush of a write-ahead log fail."""
        (self._control / "failed").unlink(missing_ok=True)
        (self._control / "fail").touch()

    @property
    def has_failed(self) -> bool:
        """Whether it did."""
        return (self._control / "failed").exists()

    def power_cut(self, data: Path, chance: random.Random) -> int:
        """Take from a data directory whose process was killed what was not flushed; return how many bytes."""
        durable = self._durable()
        self._shorten(durable)
        lost = 0
        for path in (file for file in sorted(data.rglob("*")) if file.is_file()):
            found = path.stat()
            size = durable.get((found.st_dev, found.st_ino))
            if size is None:
                lost += found.st_size
                path.unlink()
            elif size < found.st_size:
                # All of it, or its end: the disk may have got some of it already.
                left = chance.choice([size, chance.randint(size, found.st_size)])
                lost += found.st_size - left
                os.truncate(path, left)
        return lost

    def _shorten(self, durable: Mapping[tuple[int, int], int]) -> None:
        """Note the same in fewer lines: in an hour there are a million."""
        lines = (f"+ {device} {inode} {size}\n" for (device, inode), size in durable.items())
        self._ledger.write_text("".join(lines))

    def _durable(self) -> dict[tuple[int, int], int]:
        """Return the size that each file had when it was flushed last, by device and inode."""
        sizes: dict[tuple[int, int], int] = {}
        for line in self._ledger.read_text().splitlines():
            what, device, inode, *size = line.split()
            if what == "+":
                sizes[int(device), int(inode)] = int(size[0])
            else:
                sizes.pop((int(device), int(inode)), None)
        return sizes
