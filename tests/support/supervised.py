"""Whoever ends is started again, as systemd or Kubernetes would do it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.support.cluster import Cluster
from tests.support.waiting import running

_LOOK_S: Final = 0.1
_ENDS_MAX: Final = 20  # Of one process: then it is not coming back, and the test is to say so.


@asynccontextmanager
async def supervised(cluster: Cluster) -> AsyncIterator[Counter[str]]:
    """Start again whatever process ends during the block; gives how often each did so far."""
    ends: Counter[str] = Counter()
    async with running(_supervise(cluster, ends)):
        yield ends


async def _supervise(cluster: Cluster, ends: Counter[str]) -> None:
    while True:
        for name in cluster.ended():
            ends[name] += 1
            assert ends[name] <= _ENDS_MAX, f"{name} ends again and again"
            cluster.restart(name)
        await asyncio.sleep(_LOOK_S)
