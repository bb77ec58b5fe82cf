"""Processes that are killed, frozen, or restarted one after the other."""

import asyncio
from typing import Final

from tests.faults.soak.deck import Kind
from tests.faults.soak.ground import Ground
from tests.support.cluster import GATEWAY

_SETTLE_S: Final = 0.5


async def kill(ground: Ground) -> None:
    await _killed(ground, 1)


async def kill_two(ground: Ground) -> None:
    await _killed(ground, 2)


async def freeze(ground: Ground) -> None:
    await _frozen(ground, ground.chance.choice(ground.cluster.shards), ground.away_s())


async def freeze_gateway(ground: Ground) -> None:
    await _frozen(ground, GATEWAY, min(ground.away_s(), float(ground.lease_s)))


async def restart_all(ground: Ground) -> None:
    """End each in order and start it again, as an upgrade does."""
    for name in ground.mortal():
        ground.says(f"{name} is restarted")
        with ground.away(name):
            await asyncio.to_thread(ground.cluster.terminate, name)
            ground.cluster.restart(name)
        await asyncio.sleep(_SETTLE_S)


async def _killed(ground: Ground, count: int) -> None:
    names = ground.chance.sample(ground.mortal(), count)
    ground.says(f"SIGKILL of {', '.join(names)}")
    with ground.away(*names):
        for name in names:
            ground.cluster.kill(name)
        for name in names:
            await asyncio.sleep(ground.away_s() / count)
            ground.cluster.restart(name)


async def _frozen(ground: Ground, name: str, seconds: float) -> None:
    ground.says(f"SIGSTOP of {name} for {seconds:.1f} s")
    ground.cluster.stop(name)
    try:
        await asyncio.sleep(seconds)
    finally:
        ground.cluster.cont(name)


KINDS: Final = (
    Kind("shard killed", 4, kill),
    Kind("two shards killed", 2, kill_two),
    Kind("shard frozen", 4, freeze),
    Kind("gateway frozen", 2, freeze_gateway),
    Kind("rolling restart", 1, restart_all, takes_s=10.0),
)
