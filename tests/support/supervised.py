"""Whoever ends is started again, as systemd or Kubernetes would do it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from tests.support.cluster import Cluster
from tests.support.waiting import running

_LOOK_S: Final = 0.1
_ENDS_MAX: Final = 20  # Of one process: then it is not coming back, and the test is to say so.


class End(NamedTuple):
    """A process that ended, and with which status: minus the number of the signal, if one killed it."""

    name: str
    status: int


@asynccontextmanager
async def supervised(cluster: Cluster) -> AsyncIterator[list[End]]:
    """Start again whatever process ends during the block; gives the ends so far."""
    ends: list[End] = []
    async with running(_supervise(cluster, ends)):
        yield ends


async def _supervise(cluster: Cluster, ends: list[End]) -> None:
    while True:
        for name in cluster.ended():
            status = cluster.status_of(name)
            assert status is not None
            ends.append(End(name, status))
            assert sum(end.name == name for end in ends) <= _ENDS_MAX, f"{name} ends again and again"
            cluster.restart(name)
        await asyncio.sleep(_LOOK_S)
