"""Source, target and controller that crash at each step of a move, under load: it comes to its end all the same."""

import asyncio
from pathlib import Path
from typing import Final

import pytest

from shard.engine.points import Point
from tests.integration.operations.load import show, under_load
from tests.integration.operations.status import rest
from tests.support.cluster import Cluster

AWAY_S: Final = 1.0

OLD: Final = ("s1", "s2", "s3")
NEW: Final = ("s4",)


async def restart_what_crashes(cluster: Cluster, crashed: list[str]) -> None:
    """Start each process again that ends by itself, now without a crash in its way."""
    while True:
        await asyncio.sleep(0.05)
        for name in cluster.ended():
            crashed.append(name)
            await asyncio.sleep(AWAY_S)
            cluster.restart(name)


@pytest.mark.parametrize(
    ("point", "who"),
    [
        (Point.JOIN_WISHED, OLD),  # The controller is one of them.
        (Point.CLONE_GRANTED, OLD[:1]),
        (Point.COPY_INSTALLED, NEW),
        (Point.ADD_ASKED, OLD[:1]),
        (Point.PROMOTE_ASKED, OLD[:1]),
        (Point.TERM_BEGUN, NEW),
    ],
)
async def test_crash_at_a_step_of_a_move_loses_nothing_and_the_move_ends(
    tmp_path: Path, point: Point, who: tuple[str, ...]
) -> None:
    crash_at = dict.fromkeys(who, point.value)
    async with Cluster(tmp_path, copies=2, lease_s=2, slots=16, spread=4, crash_at=crash_at) as cluster:
        await rest(cluster, shards=3, copies=2)
        crashed: list[str] = []
        async with under_load(cluster):
            cluster.add("s4", crash_at=crash_at.get("s4", ""))
            restarting = asyncio.create_task(restart_what_crashes(cluster, crashed))
            await rest(cluster, shards=4, copies=2)
            restarting.cancel()
        show(f"{crashed} crashed: {point.value}")
        assert set(crashed) & set(who)
