"""``tally import`` against a real cluster: whatever is killed on the way, each line is counted once."""

import asyncio
import random
import re
import secrets
import signal
from collections import Counter
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tally.hashing import MS_PER_HOUR
from tests.support import commands
from tests.support.cluster import GATEWAY, Cluster
from tests.support.events import HOUR

HOURS: Final = 40
USERS: Final = 300
EVENTS: Final = 12_000
AWAY_S: Final = 1.5

_SHARE: Final = re.compile(r"\(([0-9]+) %\)")

Truth = dict[int, str]


def write_events(path: Path, events: int = EVENTS) -> Truth:
    """Write events to ``path``; return what must be answered for each hour when each is counted once."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - to repeat what failed.
    chance = random.Random(seed)
    rows = [
        (HOUR + chance.randrange(HOURS), f"u{chance.randrange(USERS)}", chance.choice(("click", "impression")))
        for _ in range(events)
    ]
    lines = [f"{hour * MS_PER_HOUR},{user},{kind}\n" for hour, user, kind in rows]
    path.write_text("timestamp_ms,user,kind\n" + "".join(lines))
    users = Counter(hour for hour, _ in {(hour, user) for hour, user, _ in rows})
    kinds = Counter((hour, kind) for hour, _, kind in rows)
    return {
        hour: f"unique_users,{users[hour]}\nclicks,{kinds[hour, 'click']}\nimpressions,{kinds[hour, 'impression']}\n"
        for hour in range(HOUR, HOUR + HOURS)
    }


async def answers(cluster: Cluster) -> Truth:
    """Read each hour back."""
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        found = {}
        for hour in range(HOUR, HOUR + HOURS):
            async with session.get(f"{cluster.url}/analytics?timestamp={hour * MS_PER_HOUR}") as answer:
                found[hour] = await answer.text()
    return found


async def share_imported(process: asyncio.subprocess.Process, due: int) -> None:
    """Wait until so many per cent are imported."""
    assert process.stderr
    async for line in process.stderr:
        if (found := _SHARE.search(line.decode())) and int(found[1]) >= due:
            return
    raise AssertionError(f"it ended before {due} %")


@pytest.mark.timeout(250)
async def test_a_gateway_killed_twice_while_importing_loses_no_line_and_doubles_none(tmp_path: Path) -> None:
    """Each time dozens of events are in doubt: some are counted, some have never arrived."""
    file = tmp_path / "events.csv"
    truth = write_events(file)
    async with Cluster(tmp_path, slots=32, spread=8) as cluster:
        process = await commands.begin("import", str(file), "--to", cluster.url)
        for due in (20, 60):
            await share_imported(process, due)
            cluster.kill(GATEWAY)
            await asyncio.sleep(AWAY_S)
            assert process.returncode is None, "the import ended before the gateway was back"
            cluster.restart(GATEWAY)
        done = await commands.finish(process, within_s=150)
        assert done.status == 0, done
        assert done.out.startswith(f"{EVENTS:,} counted, 0 refused, 0 unknown")
        assert await answers(cluster) == truth


@pytest.mark.timeout(250)
@pytest.mark.full
async def test_a_shard_that_is_away_longer_than_any_request_waits_loses_no_line_and_doubles_none(
    tmp_path: Path,
) -> None:
    """With one copy nothing takes its place: the gateway gives up, and says 503 to line after line."""
    file = tmp_path / "events.csv"
    truth = write_events(file)
    async with Cluster(tmp_path, slots=32, spread=8) as cluster:
        process = await commands.begin("import", str(file), "--to", cluster.url)
        await share_imported(process, 30)
        cluster.kill("s1")
        await asyncio.sleep(12.0)
        assert process.returncode is None, "the import ended before the shard was back"
        cluster.restart("s1")
        done = await commands.finish(process, within_s=150)
        assert done.status == 0, done
        assert done.out.startswith(f"{EVENTS:,} counted, 0 refused, 0 unknown")
        assert await answers(cluster) == truth


@pytest.mark.timeout(250)
async def test_an_import_that_was_stopped_or_was_whole_counts_nothing_twice_when_it_is_run_again(
    tmp_path: Path,
) -> None:
    file = tmp_path / "events.csv"
    truth = write_events(file)
    async with Cluster(tmp_path, slots=32, spread=8) as cluster:
        command = ("import", str(file), "--to", cluster.url)
        process = await commands.begin(*command)
        await share_imported(process, 30)
        process.send_signal(signal.SIGINT)
        stopped = await commands.finish(process)
        assert stopped.status == 130, stopped
        assert "the same command within 24 hours counts the rest, and nothing twice" in stopped.out
        assert await answers(cluster) != truth, "it was stopped too late to show anything"
        for _ in range(2):
            done = await commands.tally(*command)
            assert done.status == 0, done
            assert done.out.startswith(f"{EVENTS:,} counted, 0 refused, 0 unknown")
            assert await answers(cluster) == truth


@pytest.mark.timeout(250)
@pytest.mark.full
async def test_an_import_that_was_killed_counts_nothing_twice_when_it_is_run_again(tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    truth = write_events(file, EVENTS // 2)
    async with Cluster(tmp_path, slots=32, spread=8) as cluster:
        command = ("import", str(file), "--to", cluster.url)
        process = await commands.begin(*command)
        await share_imported(process, 30)
        process.kill()
        await process.wait()
        done = await commands.tally(*command)
        assert done.status == 0, done
        assert await answers(cluster) == truth


@pytest.mark.timeout(250)
async def test_the_same_lines_are_counted_once_for_each_key_prefix(tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    truth = write_events(file, 500)
    doubled = {
        hour: re.sub("(clicks|impressions),([0-9]+)", lambda found: f"{found[1]},{2 * int(found[2])}", text)
        for hour, text in truth.items()
    }
    async with Cluster(tmp_path, slots=32, spread=8) as cluster:
        for prefix, expected in (("july", truth), ("july", truth), ("august", doubled), ("july", doubled)):
            for name, stdin in ((str(file), b""), ("-", file.read_bytes())):
                done = await commands.tally(*("import", name, "--to", cluster.url, "--key-prefix", prefix), stdin=stdin)
                assert done.status == 0, done
                assert await answers(cluster) == expected
