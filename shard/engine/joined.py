"""Copies that joined this shard, told together: a shard that is added gets hundreds in a few seconds.

Pure: the time is an argument.
"""

from typing import Final, NamedTuple

QUIET_S: Final = 1.0
MOST_S: Final = 10.0


class Joins(NamedTuple):
    """Copies that joined within some seconds.

    Attributes:
        source: The shard that they came from.
        how: ``clone`` or ``catch_up``.
        slots: How many.
        ops: How many ops came with them.
    """

    source: str
    how: str
    slots: int
    ops: int


class Joined:
    """Gathers joins until there are no more for ``QUIET_S``, or for ``MOST_S``."""

    def __init__(self) -> None:
        self._joins: dict[tuple[str, str], tuple[int, int]] = {}
        self._first_at = 0.0
        self._last_at = 0.0

    def add(self, source: str, how: str, ops: int, now: float) -> None:
        """Note that a copy joined."""
        if not self._joins:
            self._first_at = now
        self._last_at = now
        slots, before = self._joins.get((source, how), (0, 0))
        self._joins[source, how] = slots + 1, before + ops

    def take_due(self, now: float) -> list[Joins]:
        """Return what is to be told now."""
        if not self._joins or (now < self._last_at + QUIET_S and now < self._first_at + MOST_S):
            return []
        found = [Joins(*name, *counts) for name, counts in sorted(self._joins.items())]
        self._joins.clear()
        return found
