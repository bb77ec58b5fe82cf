"""How often an event may be logged: some at once, then one per period; what is held back is counted.

Pure: the time is an argument.
"""

from threading import RLock
from typing import Final, NamedTuple

NAMES_MAX: Final = 1000
OTHERS: Final = "(others)"


class Rate(NamedTuple):
    """How often one event may be logged.

    Attributes:
        burst: So many at once.
        every_s: And one more each time that so many seconds have passed.
    """

    burst: int
    every_s: float


USUAL: Final = Rate(100, 1.0)
OFTEN: Final = Rate(10, 2.0)
# What a stranger can bring about as often as he likes.
FROM_OUTSIDE: Final = Rate(10, 10.0)


class _Bound:
    """What one name may still do."""

    __slots__ = ("at", "held_back", "left")

    def __init__(self, left: float, at: float) -> None:
        self.left = left
        self.at = at
        self.held_back = 0

    def refill(self, rate: Rate, now: float) -> None:
        self.left = min(rate.burst, self.left + max(0.0, now - self.at) / rate.every_s)
        self.at = now


class Bounds:
    """The rates of all events of a process. May be used by several threads."""

    def __init__(self) -> None:
        self._bounds: dict[str, _Bound] = {}
        self._rates: dict[str, Rate] = {}
        self._lock = RLock()  # Whoever holds it may be made to log by the garbage collector.
        self.held_back = 0

    def admit(self, name: str, now: float, rate: Rate = USUAL) -> int | None:
        """Tell whether an event may be logged: None if not, else how many were held back since the last that was."""
        with self._lock:
            if name not in self._bounds and len(self._bounds) >= NAMES_MAX:
                name = OTHERS  # Names are ours, and few; if they are not, they share one rate.
            rate = self._rates.setdefault(name, rate)
            bound = self._bounds.get(name)
            if bound is None:
                bound = self._bounds[name] = _Bound(rate.burst, now)
            bound.refill(rate, now)
            if bound.left < 1:
                bound.held_back += 1
                self.held_back += 1
                return None
            bound.left -= 1
            before, bound.held_back = bound.held_back, 0
            return before

    def due(self, now: float, *, at_once: bool = False) -> dict[str, int]:
        """Return of which events some were held back, and how many; those that may be logged again, or all."""
        found: dict[str, int] = {}
        with self._lock:
            for name, bound in self._bounds.items():
                bound.refill(self._rates[name], now)
                if bound.held_back and (at_once or bound.left >= 1):
                    bound.left = max(0.0, bound.left - 1)
                    found[name], bound.held_back = bound.held_back, 0
        return found
