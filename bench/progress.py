"""Says on stderr how far a benchmark is."""

import sys
import time
from typing import Final, TextIO

_BAR: Final = 20


class Progress:
    """Knows how many seconds of measuring there are in all."""

    def __init__(self, total_s: float, out: TextIO = sys.stderr) -> None:
        """Begin; ``total_s`` is without starts and pauses."""
        self._total_s = max(total_s, 1e-9)
        self._done_s = 0.0
        self._out = out
        self._began = time.monotonic()

    def ran(self, seconds: float, line: str) -> None:
        """Tell what a run of so many seconds gave."""
        self._done_s += seconds
        self.say(line)

    def say(self, line: str) -> None:
        """Write a line beside the bar."""
        share = min(1.0, self._done_s / self._total_s)
        took_s = time.monotonic() - self._began
        print(f"[{bar(share)}] {left(took_s, share)}  {line}", file=self._out, flush=True)


def bar(share: float) -> str:
    """Draw how much is done, 0 to 1. Pure."""
    full = int(share * _BAR)
    return "#" * full + "." * (_BAR - full)


def left(took_s: float, share: float) -> str:
    """Guess how long the rest takes. Pure."""
    if share <= 0:
        return " ?:?? left"
    rest = round(took_s * (1 - share) / share)
    return f"{rest // 60:2d}:{rest % 60:02d} left"
