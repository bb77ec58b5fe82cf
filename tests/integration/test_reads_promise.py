"""The promise about GETs, over HTTP, with many clients at once.

A GET sees every event that was acknowledged before it began, none that was sent after it ended, and never less than a
GET of that hour that ended before it began, whoever asked.
"""

import asyncio
import secrets
import time
from pathlib import Path
from typing import Final

import aiohttp

from tests.support.checking_clients import Clients
from tests.support.cluster import Cluster
from tests.support.events import HOUR

SECONDS: Final = 10.0
WRITERS: Final = 48
READERS: Final = 24
HOURS: Final = (HOUR, HOUR + 1, HOUR - 5000)


async def test_gets_see_all_that_was_acknowledged_and_never_go_back(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it with the failure.
    connector = aiohttp.TCPConnector(limit=WRITERS + READERS)
    timeout = aiohttp.ClientTimeout(total=20.0)
    async with Cluster(tmp_path) as cluster, aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        clients = Clients(session, cluster.url, hours=HOURS, seed=seed)
        busy, *quiet = clients.hours
        end = time.monotonic() + SECONDS
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                hour = quiet[number % 2] if number % 5 == 0 else busy
                group.create_task(clients.write(number, hour, lambda: time.monotonic() < end))
            for number in range(READERS):
                hour = quiet[number % 2] if number % 5 == 0 else busy
                group.create_task(clients.read(hour, lambda: time.monotonic() < end))
        assert clients.unknown == clients.refused_reads == 0
        for hour in clients.hours:
            assert hour.reads > 10
            assert await clients.read_once(hour) == hour.sent.numbers() == hour.acknowledged.numbers()
