"""What every question needs: settings, places for systems, hours of its own, and the progress."""

import itertools
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bench.counts import HOUR_MS
from bench.peers.system import Place
from bench.progress import Progress
from bench.settings import Settings

_ROOT: Final = Path(__file__).parents[1] / "build" / "bench"


class Bench:
    """``with Bench(...)``: its directories are gone afterwards.

    Attributes:
        settings: As given.
        progress: Where to say what was measured.
    """

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.settings = settings
        self.progress = progress
        self._numbers = itertools.count(1)
        # Each workload has an hour of its own that stands for the current one: it begins empty.
        self._hours = itertools.count(int(time.time() * 1000) // HOUR_MS, -1)

    def __enter__(self) -> Self:
        _ROOT.mkdir(parents=True, exist_ok=True)
        # Below the clone, on a disk: what is in memory flushes for nothing.
        self._directory = Path(tempfile.mkdtemp(dir=_ROOT))
        self._sockets = Path(tempfile.mkdtemp(prefix="bench-"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for directory in (self._directory, self._sockets):
            shutil.rmtree(directory, ignore_errors=True)

    def place(self, name: str) -> Place:
        """Return an empty place for a system."""
        directory = self._directory / f"{next(self._numbers)}-{name}"
        return Place(directory=directory, sockets=self._sockets, core=self.settings.server_core)

    def new_hour(self) -> int:
        """Return an hour, close to now, that no question has had."""
        return next(self._hours)
