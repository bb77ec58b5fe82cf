"""What a soak does to a cluster: one fault or planned change after the other, drawn from a seed.

``LIVES_ON`` and the gateway are frozen and cut off, but never killed: their memory is what the soak watches.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from tests.faults.probe import Measurement
from tests.integration.operations.status import run
from tests.support.cluster import GATEWAY, Cluster

LIVES_ON: Final = "s1"
SHARDS_MAX: Final = 5
_SETTLE_S: Final = 0.5


class SoakFaults:
    """The faults of one soak; each returns when whatever it took away is there again."""

    def __init__(self, cluster: Cluster, chance: random.Random, lease_s: int) -> None:
        self._cluster = cluster
        self._chance = chance
        self._lease_s = lease_s
        self._added = len(cluster.shards)
        self.done: Counter[str] = Counter()
        self._kinds: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {
            "shard killed": (6, self._kill),
            "two shards killed": (2, self._kill_two),
            "shard frozen": (4, self._freeze),
            "gateway frozen": (2, self._freeze_gateway),
            "etcd killed": (2, self._etcd_killed),
            "etcd frozen": (1, self._etcd_frozen),
            "rolling restart": (1, self._rolling_restart),
            "shard added": (2, self._add),
            "shard drained": (2, self._drain),
            "copies changed": (1, self._copies),
        }

    async def strike(self, measurement: Measurement) -> None:
        """Do one of them, and wait until all copies are back."""
        kinds = list(self._kinds)
        (kind,) = self._chance.choices(kinds, [self._kinds[kind][0] for kind in kinds])
        self.done[kind] += 1
        measurement.begins(f"soak: {kind}")
        await self._kinds[kind][1]()
        await measurement.is_back()
        await asyncio.sleep(self._chance.uniform(0.0, 2 * _SETTLE_S))

    def _away_s(self) -> float:
        """For how long something is away: up to three leases."""
        return self._lease_s * self._chance.choice((0.1, 0.5, 1.0, 3.0)) * self._chance.uniform(0.8, 1.2)

    def _mortal(self) -> list[str]:
        return [name for name in self._cluster.shards if name != LIVES_ON]

    async def _kill(self) -> None:
        await self._killed([self._chance.choice(self._mortal())])

    async def _kill_two(self) -> None:
        await self._killed(self._chance.sample(self._mortal(), 2))

    async def _killed(self, names: list[str]) -> None:
        for name in names:
            self._cluster.kill(name)
        for name in names:
            await asyncio.sleep(self._away_s() / len(names))
            self._cluster.restart(name)

    async def _freeze(self) -> None:
        await self._frozen(self._chance.choice(self._cluster.shards), self._away_s())

    async def _freeze_gateway(self) -> None:
        await self._frozen(GATEWAY, min(self._away_s(), float(self._lease_s)))

    async def _frozen(self, name: str, seconds: float) -> None:
        self._cluster.stop(name)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._cluster.cont(name)

    async def _etcd_killed(self) -> None:
        await asyncio.to_thread(self._cluster.etcd.stop)
        await asyncio.sleep(self._away_s())
        await asyncio.to_thread(self._cluster.etcd.start)

    async def _etcd_frozen(self) -> None:
        self._cluster.etcd.freeze()
        try:
            await asyncio.sleep(self._away_s())
        finally:
            self._cluster.etcd.thaw()

    async def _rolling_restart(self) -> None:
        for name in self._mortal():
            await asyncio.to_thread(self._cluster.terminate, name)
            self._cluster.restart(name)
            await asyncio.sleep(_SETTLE_S)

    async def _add(self) -> None:
        if len(self._cluster.shards) >= SHARDS_MAX:
            await self._drain()
            return
        self._added += 1
        self._cluster.add(f"s{self._added}")

    async def _drain(self) -> None:
        """Take the newest of the added shards out, if there is one."""
        if len(self._cluster.shards) <= 3:
            return
        name = self._cluster.shards[-1]
        await run(self._cluster, "drain", name, "--wait")
        await asyncio.to_thread(self._cluster.terminate, name)
        await run(self._cluster, "members", "remove", name)
        self._cluster.forget(name)

    async def _copies(self) -> None:
        for copies in ("2", "3"):
            await run(self._cluster, "config", "set", "copies", copies)
            await asyncio.sleep(self._chance.uniform(1.0, 4.0))
