"""What a soak does to a cluster: one fault or planned change after the other, of all kinds."""

import asyncio
import time
from collections import Counter
from typing import Final, NamedTuple

from tests.faults.soak import clock, disk, etcd, network, planned, processes
from tests.faults.soak.deck import SHORT_S, Deck
from tests.faults.soak.ground import LIVES_ON, Ground
from tests.support.cluster import GATEWAY

KINDS: Final = (*processes.KINDS, *planned.KINDS, *etcd.KINDS, *network.KINDS, *disk.KINDS)
KINDS_BY_SHIM: Final = (*disk.KINDS_BY_SHIM, *clock.KINDS_BY_SHIM)
_SETTLE_MAX_S: Final = 1.0


class Struck(NamedTuple):
    """When a fault was; monotonic times."""

    kind: str
    begin: float
    end: float
    copies_back_s: float


class SoakFaults:
    """The faults of one soak.

    Attributes:
        struck: What happened so far.
        ends: How often each process ended by itself.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._deck = Deck(KINDS + KINDS_BY_SHIM if ground.has_shims else KINDS, ground.chance)
        self.struck: list[Struck] = []
        self.ends: Counter[str] = Counter()

    async def strike(self, left_s: float) -> None:
        """Do one of those for which there is time, at least ``SHORT_S``, and wait until all copies are back."""
        assert left_s >= SHORT_S
        ground = self._ground
        kind = self._deck.draw(lambda one: one.takes_s <= left_s and one.possible(ground))
        begin, back_s = time.monotonic(), float("nan")
        ground.says(f"soak: {kind.name}")
        try:
            await kind.strike(ground)
            back_s = await ground.is_back()
            await asyncio.sleep(ground.chance.uniform(0.0, _SETTLE_MAX_S))
        finally:
            self.struck.append(Struck(kind.name, begin, time.monotonic(), back_s))
        assert not {LIVES_ON, GATEWAY} & set(ground.cluster.ended()), "it ended by itself"
        self.ends.update(end.name for end in ground.ends)
        ground.ends.clear()  # A supervisor gives up who ends again and again: at one fault, not in an hour.
