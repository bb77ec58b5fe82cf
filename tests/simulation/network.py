"""Messages between machines: some late, lost or repeated, so they overtake others; a pair may be cut off, one way."""

from collections.abc import Callable
from typing import Any, Final

from tests.simulation.world import World

CALL_S: Final = 1.5  # A call without an answer fails after so long.


class Network:
    """Carries calls of functions from one machine to another."""

    def __init__(self, world: World) -> None:
        self._after = world.after
        self._chance = world.chance
        self.trouble = 0.0  # The share of messages that are late, lost or repeated.
        self.calm = False  # None of them at present.
        self._cut: dict[tuple[str, str], int] = {}  # (from, to) -> how many faults cut it.

    def send(self, source: str, target: str, act: Callable[..., None], *args: Any) -> None:
        """Carry a message."""
        if self._cut and (source, target) in self._cut:
            return
        luck = self._chance()
        if luck < self.trouble and not self.calm:
            self._trouble(luck / self.trouble, act, args)
        else:
            self._after(0.001 + 0.03 * luck * luck * luck, act, *args)

    def _trouble(self, luck: float, act: Callable[..., None], args: tuple[Any, ...]) -> None:
        if luck < 0.35:
            return
        self._after(0.005 + 2.5 * self._chance() ** 2, act, *args)
        if luck < 0.6:
            self._after(0.001 + 1.0 * self._chance() ** 2, act, *args)

    def reaches(self, name: str) -> bool:
        """Tell whether nothing cuts ``name`` off from anybody."""
        return all(name not in pair for pair in self._cut)

    def cut_off(self, source: str, target: str) -> None:
        """Lose everything from ``source`` to ``target`` until ``mend``."""
        self._cut[source, target] = self._cut.get((source, target), 0) + 1

    def mend(self, source: str, target: str) -> None:
        """End one ``cut_off``."""
        left = self._cut.pop((source, target), 0) - 1
        if left > 0:
            self._cut[source, target] = left

    def mend_all(self) -> None:
        """End all troubles."""
        self._cut.clear()
        self.trouble = 0.0
