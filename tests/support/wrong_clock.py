"""The wall clock of one process, put wrong while it runs: ``clock.c``, built with the compiler of this machine."""

import shutil
import struct
import subprocess
import time
from pathlib import Path
from typing import Final

import pytest

_SOURCE: Final = Path(__file__).with_name("clock.c")
_NUMBERS: Final = struct.Struct("@qq")
_BUILD_S: Final = 60.0


class WrongClock:
    """A clock that is right at first. ``environment`` makes a process go by it."""

    def __init__(self, directory: Path) -> None:
        """Build it in ``directory``; the test is skipped if this machine has no C compiler."""
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler (cc) on this machine to build the wrong clock with")
        self._library = directory / "clock.so"
        self._file = directory / "clock"
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(self._library), str(_SOURCE), "-ldl", "-pthread"]
        subprocess.run(command, check=True, timeout=_BUILD_S)
        self._file.write_bytes(_NUMBERS.pack(0, 0))

    @property
    def environment(self) -> dict[str, str]:
        """What a process has to be started with."""
        return {"LD_PRELOAD": str(self._library), "TALLY_CLOCK": str(self._file)}

    def ahead(self, seconds: float) -> None:
        """Let it be so much ahead of the time, or behind it if that is less than 0."""
        self._write(int(seconds * 1e9), 0)

    def stuck(self) -> None:
        """Let it stand still from now on."""
        self._write(0, time.time_ns())

    def _write(self, *numbers: int) -> None:
        # In place: the processes have it mapped.
        with self._file.open("r+b") as file:
            file.write(_NUMBERS.pack(*numbers))
