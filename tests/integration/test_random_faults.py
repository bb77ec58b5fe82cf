"""Processes that are killed and frozen at random, under load: no promise is broken."""

import asyncio
import random
import secrets
import time
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tests.support.checking_clients import Clients
from tests.support.cluster import Cluster
from tests.support.events import HOUR

SECONDS: Final = 20.0
WRITERS: Final = 12
READERS: Final = 4
HOURS: Final = (HOUR, HOUR + 1, HOUR - 5000)
VICTIMS: Final = ("s1", "s2", "s3", "s1", "s2", "s3", "gateway")


async def strike(cluster: Cluster, chance: random.Random, end: float) -> list[str]:
    """Kill or freeze one process after the other until ``end``, each only for a while; return what was done."""
    done: list[str] = []
    while time.monotonic() < end:
        await asyncio.sleep(chance.uniform(0.2, 1.5))
        victim, away_s = chance.choice(VICTIMS), chance.uniform(0.1, 2.5)
        if chance.random() < 0.5:
            done.append(f"kill {victim} for {away_s:.1f} s")
            cluster.kill(victim)
            await asyncio.sleep(away_s)
            cluster.restart(victim)
        else:
            done.append(f"freeze {victim} for {away_s:.1f} s")
            cluster.stop(victim)
            await asyncio.sleep(away_s)
            cluster.cont(victim)
    return done


@pytest.mark.parametrize("copies", [1, 3])
async def test_kills_and_freezes_lose_nothing_double_nothing_and_never_show_an_old_number(
    tmp_path: Path, copies: int
) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it with the failure.
    connector = aiohttp.TCPConnector(limit=3 * WRITERS)
    timeout = aiohttp.ClientTimeout(total=12.0)
    cluster_of = Cluster(tmp_path, copies=copies, lease_s=2)
    async with cluster_of as cluster, aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        clients = Clients(session, cluster.url, hours=HOURS, seed=seed)
        plain, old, keyed = clients.hours
        end = time.monotonic() + SECONDS
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(
                    clients.write(number, old if number % 4 == 0 else plain, lambda: time.monotonic() < end)
                )
                group.create_task(clients.write_until_definite(number, keyed, lambda: time.monotonic() < end))
            for number in range(READERS):
                group.create_task(clients.read(clients.hours[number % 3], lambda: time.monotonic() < end))
            striking = group.create_task(strike(cluster, random.Random(seed), end - 3))
        print(striking.result(), f"{clients.unknown} unknown, {clients.refused_reads} reads refused")  # noqa: T201
        await cluster.wait_ready()
        assert min(len(striking.result()), *(hour.reads for hour in clients.hours)) > 3
        for hour in clients.hours:
            assert await clients.read_once(hour) is not None
        assert keyed.told == keyed.sent.numbers() == keyed.acknowledged.numbers()
