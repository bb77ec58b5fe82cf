"""The first of the real input while a shard is added and another one is killed: every hour exact."""

import asyncio
import csv
import gzip
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import aiohttp

from tally.hashing import MS_PER_HOUR
from tests.integration.operations.load import show
from tests.integration.operations.status import check_fair, rest
from tests.support import commands
from tests.support.checking_clients import Tally
from tests.support.cluster import Cluster
from tests.support.real_input import EVENTS_FILE

EVENTS: Final = 30_000
ADDED_AT: Final = 20
KILLED_AT: Final = 50
AWAY_S: Final = 4.0

_CONNECTIONS: Final = 64
_SHARE: Final = re.compile(r"\(([0-9]+) %\)")


def first_events(path: Path) -> dict[int, str]:
    """Write the first of the real input to ``path``; return what must be answered for each hour then."""
    with gzip.open(EVENTS_FILE, "rt", newline="") as file:
        lines = list(islice(file, EVENTS + 1))
    path.write_text("".join(lines))
    tallies: defaultdict[int, Tally] = defaultdict(Tally)
    for row in csv.DictReader(lines):
        tallies[int(row["timestamp_ms"]) // MS_PER_HOUR].add(row["user"], row["kind"])
    numbers = {hour: tally.numbers() for hour, tally in tallies.items()}
    return {
        hour: f"unique_users,{users}\nclicks,{clicks}\nimpressions,{impressions}\n"
        for hour, (users, clicks, impressions) in numbers.items()
    }


async def wrong_hours(url: str, truth: dict[int, str]) -> list[str]:
    """Read each hour back and name those that are not as they must be."""
    wrong: list[str] = []

    async def work(session: aiohttp.ClientSession, hours: Iterator[int]) -> None:
        for hour in hours:  # Shared: each hour goes to one worker.
            async with session.get(f"{url}/analytics?timestamp={hour * MS_PER_HOUR}") as answer:
                body = await answer.text()
                if (answer.status, body) != (200, truth[hour]):
                    wrong.append(f"hour {hour}: {answer.status} {body!r}, not {truth[hour]!r}")

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_CONNECTIONS)) as session:
        hours = iter(truth)
        await asyncio.gather(*(work(session, hours) for _ in range(_CONNECTIONS)))
    return sorted(wrong)


async def share_imported(process: asyncio.subprocess.Process, due: int) -> None:
    """Wait until so many per cent are imported."""
    assert process.stderr
    async for line in process.stderr:
        if (found := _SHARE.search(line.decode())) and int(found[1]) >= due:
            return
    raise AssertionError(f"it ended before {due} %")


async def test_every_hour_is_exact_while_a_shard_is_added_and_another_one_killed(tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    truth = first_events(file)
    async with Cluster(tmp_path, copies=3, lease_s=2, slots=32, spread=8) as cluster:
        began = time.monotonic()
        process = await commands.begin("import", str(file), "--to", cluster.url)
        await share_imported(process, ADDED_AT)
        show(f"added after {time.monotonic() - began:.1f} s")
        cluster.add("s4")
        await share_imported(process, KILLED_AT)
        show(f"killed after {time.monotonic() - began:.1f} s")
        cluster.kill("s2")
        await asyncio.sleep(AWAY_S)
        assert process.returncode is None, "the import ended before the shard was back"
        cluster.restart("s2")
        done = await commands.finish(process, within_s=150)
        show(f"ended after {time.monotonic() - began:.1f} s: {done.out}")
        assert done.status == 0, done.err
        assert done.out.startswith(f"{EVENTS:,} counted, 0 refused, 0 unknown")
        assert await wrong_hours(cluster.url, truth) == []
        check_fair(await rest(cluster, shards=4, copies=3), 3)
        assert await wrong_hours(cluster.url, truth) == []
        show(f"{len(truth)} hours exact after {time.monotonic() - began:.1f} s")
