"""Which fault is next: kinds are drawn from a shuffled deck, so that a soak that lasts has all of them."""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.faults.soak.ground import Ground

SHORT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault, or of planned change.

    Attributes:
        name: What the report calls it.
        weight: How many there are in a deck.
        strike: Does it; returns when whatever it took away is there again, perhaps not in sync yet.
        takes_s: About for how long; it is not drawn when less is left.
        possible: Whether it is to be drawn now.
    """

    name: str
    weight: int
    strike: Callable[[Ground], Awaitable[None]]
    takes_s: float = SHORT_S
    possible: Callable[[Ground], bool] = lambda _: True


class Deck:
    """So many of each kind as it has weight; when none is left that fits, another deck is shuffled in."""

    def __init__(self, kinds: Sequence[Kind], chance: random.Random) -> None:
        """Prepare; some kind must fit always."""
        self._kinds = kinds
        self._chance = chance
        self._left: list[Kind] = []

    def draw(self, fits: Callable[[Kind], bool]) -> Kind:
        """Take the first that fits; those before it stay."""
        if not any(map(fits, self._left)):
            more = [kind for kind in self._kinds for _ in range(kind.weight)]
            self._chance.shuffle(more)
            self._left += more
        drawn = next(filter(fits, self._left))
        self._left.remove(drawn)
        return drawn
