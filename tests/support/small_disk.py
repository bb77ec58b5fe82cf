"""A disk that can be full: a small file system in memory, gone when the block ends. Needs root."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

_BALLAST: Final = "ballast"


@contextmanager
def small_disk(path: Path, *, mib: int) -> Iterator[Path]:
    """Mount one at ``path``, which is made; skip the test where that is not allowed."""
    path.mkdir(parents=True)
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small file system can be mounted by root only")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system can't be mounted here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        # Lazily: a process that a failed test left must not keep it in the tree.
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill_up_to(disk: Path, share: float) -> None:
    """Leave room for nothing beyond this share of the disk, from 0 to 1."""
    room = shutil.disk_usage(disk)
    with (disk / _BALLAST).open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, int(share * room.total) - room.used)


def fill(disk: Path) -> None:
    """Leave no room."""
    with (disk / _BALLAST).open("wb") as ballast:
        size = 0
        step = 2**20
        while step >= 4096:
            try:
                os.posix_fallocate(ballast.fileno(), size, step)
            except OSError:
                step //= 2
            else:
                size += step


def free(disk: Path) -> None:
    """Give the room back."""
    (disk / _BALLAST).unlink()
