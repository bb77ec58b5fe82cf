"""Whoever ends is started again, as systemd or Kubernetes would do it."""

import asyncio
from collections.abc import AsyncIterator, Container
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
async def supervised(
    cluster: Cluster, *, ends: list[End] | None = None, leave: Container[str] = ()
) -> AsyncIterator[list[End]]:
    """Start again whatever process ends during the block; gives the ends so far.

    Args:
        cluster: Whose processes.
        ends: Where to note them; who clears it, counts anew how often is too often.
        leave: Whom to leave alone; may change.
    """
    noted = [] if ends is None else ends
    async with running(_supervise(cluster, noted, leave)):
        yield noted


async def _supervise(cluster: Cluster, ends: list[End], leave: Container[str]) -> None:
    while True:
        for name in (ended for ended in cluster.ended() if ended not in leave):
            status = cluster.status_of(name)
            assert status is not None
            ends.append(End(name, status))
            assert times_of(name, ends) <= _ENDS_MAX, f"{name} ends again and again"
            cluster.restart(name)
        await asyncio.sleep(_LOOK_S)


def times_of(name: str, ends: list[End]) -> int:
    """Return how often a process ended."""
    return sum(end.name == name for end in ends)
