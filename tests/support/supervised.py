"""Whoever ends is started again, as systemd or Kubernetes would do it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager
from typing import Final

from tests.support.cluster import Cluster
from tests.support.waiting import running

_LOOK_S: Final = 0.1
_ENDS_MAX: Final = 20  # Of one process: then it is not coming back, and the test is to say so.


@asynccontextmanager
async def supervised(
    cluster: Cluster, *, ends: Counter[str] | None = None, leave: Container[str] = ()
) -> AsyncIterator[Counter[str]]:
    """Start again whatever process ends during the block; gives how often each did so far.

    Args:
        cluster: Whose processes.
        ends: Where to count; who clears it, counts anew how often is too often.
        leave: Whom to leave alone; may change.
    """
    counted: Counter[str] = Counter() if ends is None else ends
    async with running(_supervise(cluster, counted, leave)):
        yield counted


async def _supervise(cluster: Cluster, ends: Counter[str], leave: Container[str]) -> None:
    while True:
        for name in (ended for ended in cluster.ended() if ended not in leave):
            ends[name] += 1
            assert ends[name] <= _ENDS_MAX, f"{name} ends again and again"
            cluster.restart(name)
        await asyncio.sleep(_LOOK_S)
