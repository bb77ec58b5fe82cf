"""What the faults of a soak share: the cluster and what was laid around it, chance, and whom a supervisor leaves alone.

``LIVES_ON`` and the gateway are frozen and cut off, but never killed: their memory is what the soak watches. Each fault
acts where it can: the ways of ``WIRED`` go through proxies, the disk and the clock of ``PRELOADED`` can be made wrong.
Shards that are added later have neither.
"""

import asyncio
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.probe import Measurement
from tests.support.cluster import GATEWAY, Cluster
from tests.support.faulty_disk import FaultyDisk
from tests.support.proxy import Proxies
from tests.support.supervised import End
from tests.support.wires import Wires
from tests.support.wrong_clock import WrongClock

LIVES_ON: Final = "s1"
WIRED: Final = "s2"
PRELOADED: Final = "s3"
CACHE_MIB: Final = 8  # Full long before the time from which memory is compared.


@dataclass(frozen=True, slots=True)
class Shims:
    """What is preloaded into ``PRELOADED``."""

    disk: FaultyDisk
    clock: WrongClock


class Rig:
    """Lays around a cluster, before it starts, what its faults will need.

    Attributes:
        directory: Of the data and logs of the cluster.
        wires: The ways from and to ``WIRED``; all ways would cost more of the processors than the cluster itself.
        shims: None where there is no C compiler.
    """

    wires: Wires
    shims: Shims | None = None

    def __init__(self, directory: Path, proxies: Proxies) -> None:
        self.directory = directory
        self._proxies = proxies

    def __call__(self, cluster: Cluster) -> None:
        """Lay it."""
        self.wires = Wires(self._proxies, cluster, around=(WIRED,))
        for shard in cluster.shards:
            cluster.env.setdefault(shard, {})["TALLY_CACHE_MIB"] = str(CACHE_MIB)
        if shutil.which("cc"):
            disk = FaultyDisk.build(self.directory / "shims")
            clock = WrongClock(self.directory / "shims")
            preload = {"LD_PRELOAD": f"{disk.env['LD_PRELOAD']}:{clock.environment['LD_PRELOAD']}"}
            cluster.env.setdefault(PRELOADED, {}).update(disk.env | clock.environment | preload)
            self.shims = Shims(disk, clock)
        else:
            print("no C compiler (cc): no disk and no clock goes wrong")  # noqa: T201 - what this soak leaves out.


class Ground:
    """Where the faults of one soak happen.

    Attributes:
        held: Who is not to be started again by a supervisor; see ``away``.
        ends: Who ended by itself, as its supervisor notes.
        added: How many shards the cluster ever had.
    """

    def __init__(self, rig: Rig, measurement: Measurement, chance: random.Random, lease_s: int) -> None:
        self.cluster = measurement.cluster
        self.wires = rig.wires
        self.chance = chance
        self.lease_s = lease_s
        self.held: Counter[str] = Counter((LIVES_ON, GATEWAY))
        self.ends: list[End] = []
        self.added = len(self.cluster.shards)
        self._rig = rig
        self._measurement = measurement

    @property
    def shims(self) -> Shims:
        """What is preloaded; only kinds that need it ask."""
        assert self._rig.shims is not None
        return self._rig.shims

    @property
    def has_shims(self) -> bool:
        """Whether there are any."""
        return self._rig.shims is not None

    def says(self, what: str) -> None:
        """Note, with the time, what begins now."""
        self._measurement.begins(what)

    async def is_back(self) -> float:
        """Wait until all copies are back; return for how long."""
        return await self._measurement.is_back()

    def away_s(self) -> float:
        """For how long something is away: up to three leases."""
        return self.lease_s * self.chance.choice((0.1, 0.5, 1.0, 3.0)) * self.chance.uniform(0.8, 1.2)

    async def a_while(self) -> None:
        """Wait for so long."""
        await asyncio.sleep(self.away_s())

    def mortal(self) -> list[str]:
        """Return the shards that may be killed."""
        return [name for name in self.cluster.shards if name != LIVES_ON]

    @contextmanager
    def away(self, *names: str) -> Iterator[None]:
        """Keep the supervisor from starting these: what ends them in the block starts them, or leaves it to him."""
        self.held.update(names)
        try:
            yield
        finally:
            self.held -= Counter(names)

    def log_end(self, name: str) -> Callable[[], str]:
        """Return what reads a process's log from its present end on."""
        path = self._rig.directory / f"{name}.log"
        here = path.stat().st_size

        def since() -> str:
            with path.open("rb") as file:
                file.seek(here, os.SEEK_SET)
                return file.read().decode(errors="replace")

        return since
