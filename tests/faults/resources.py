"""Memory and open files of processes that live through a soak: sampled, and held against what they were at first."""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

_PAGE_MIB: Final = 4096 / 2**20


class Sample(NamedTuple):
    """What a process had at one time."""

    at_s: float
    resident_mib: float
    open_files: int


def sample(pid: int, began: float) -> Sample:
    """Look at a process now; ``began``: the monotonic time that the samples count from."""
    proc = Path("/proc") / str(pid)
    resident_pages = int((proc / "statm").read_text().split()[1])
    open_files = sum(1 for _ in (proc / "fd").iterdir())
    return Sample(time.monotonic() - began, resident_pages * _PAGE_MIB, open_files)


class Growth(NamedTuple):
    """How a process changed from its first steady time to the end: medians of memory, least numbers of files.

    The least, because a pause of the cluster lets clients open hundreds of connections, which close when they idle.
    """

    resident_before_mib: float
    resident_after_mib: float
    files_before: int
    files_after: int

    @property
    def memory_ratio(self) -> float:
        """The memory at the end, as a multiple of that before."""
        return self.resident_after_mib / self.resident_before_mib


def growth(samples: Sequence[Sample], *, steady_from_s: float, window_s: float) -> Growth:
    """Compare the first ``window_s`` from ``steady_from_s`` on with the last ``window_s``."""
    first = [one for one in samples if steady_from_s <= one.at_s < steady_from_s + window_s]
    last = [one for one in samples if one.at_s >= samples[-1].at_s - window_s]

    memory = [statistics.median(one.resident_mib for one in window) for window in (first, last)]
    files = [min(one.open_files for one in window) for window in (first, last)]
    return Growth(memory[0], memory[1], files[0], files[1])
