"""What an operator plans: shards that join and go, and another number of copies."""

import asyncio
from typing import Final

from tests.faults.soak.deck import Kind
from tests.faults.soak.ground import Ground
from tests.integration.operations.status import run

_SHARDS_MAX: Final = 5
_SHARDS_MIN: Final = 3


async def add(ground: Ground) -> None:
    ground.added += 1
    ground.says(f"s{ground.added} is added")
    ground.cluster.add(f"s{ground.added}")


async def drain(ground: Ground) -> None:
    """Take the newest of the added shards out."""
    cluster = ground.cluster
    name = cluster.shards[-1]
    ground.says(f"{name} is drained and ended")
    await run(cluster, "drain", name, "--wait")
    with ground.away(name):
        await asyncio.to_thread(cluster.terminate, name)
        await run(cluster, "members", "remove", name)
        cluster.forget(name)


async def change_copies(ground: Ground) -> None:
    """Have two of each slot for a while."""
    for copies in ("2", "3"):
        ground.says(f"{copies} copies")
        await run(ground.cluster, "config", "set", "copies", copies)
        await asyncio.sleep(ground.chance.uniform(1.0, 4.0))


def _few(ground: Ground) -> bool:
    return len(ground.cluster.shards) < _SHARDS_MAX


def _some_added(ground: Ground) -> bool:
    return len(ground.cluster.shards) > _SHARDS_MIN


KINDS: Final = (
    Kind("shard added", 2, add, possible=_few),
    Kind("shard drained", 2, drain, takes_s=15.0, possible=_some_added),
    Kind("copies changed", 1, change_copies, takes_s=8.0),
)
