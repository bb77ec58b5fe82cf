"""One process whose wall clock is two hours ahead, two hours behind, or stuck, from one moment to the next.

What counts in days and hours by the clock: for how long keys and writers are known. What the events say of their own
time is the clients' affair.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
import pytest

from tally.hashing import MS_PER_HOUR
from tests.faults.probe import Measurement, Row, measured
from tests.faults.rows import LEASE_S, check, new_seed
from tests.support.cluster import GATEWAY, Cluster
from tests.support.events import HOUR
from tests.support.waiting import until
from tests.support.wrong_clock import WrongClock

HOURS_2_S: Final = 7200.0
SHARD: Final = "s1"
OTHER: Final = "s2"
KEYED_HOUR: Final = HOUR + 2  # Of no client.
KEYED_USERS: Final = 24
NEAR: Final = timedelta(minutes=2)
BACK_S: Final = 20.0


class Fault(NamedTuple):
    """What happens to the clock, and by how much its times are wrong afterwards."""

    how: str
    strike: Callable[[WrongClock], None]
    by: timedelta = timedelta()


AHEAD: Final = Fault("two hours ahead", lambda clock: clock.ahead(HOURS_2_S), timedelta(seconds=HOURS_2_S))
BEHIND: Final = Fault("two hours behind", lambda clock: clock.ahead(-HOURS_2_S), timedelta(seconds=-HOURS_2_S))
STUCK: Final = Fault("stuck", WrongClock.stuck)
ROWS: Final = [
    pytest.param(
        name, fault, id=f"{name}-{fault.how}", marks=() if (name, fault) == (SHARD, BEHIND) else pytest.mark.full
    )
    for name in (SHARD, GATEWAY)
    for fault in (AHEAD, BEHIND, STUCK)
]


async def send_keyed(cluster: Cluster) -> None:
    """Send some events with their keys, each until it is acknowledged."""
    async with aiohttp.ClientSession() as session:
        for number in range(KEYED_USERS):
            url = f"{cluster.url}/analytics?timestamp={KEYED_HOUR * MS_PER_HOUR}&user=keyed{number}&click"

            async def acknowledged(url: str = url, key: str = f"key-{number}") -> bool:
                try:
                    async with session.post(url, headers={"Idempotency-Key": key}) as answer:
                        return answer.status == 204
                except aiohttp.ClientError:
                    return False  # Nobody is there.

            await until(acknowledged, within_s=BACK_S)


async def keyed_counts(cluster: Cluster) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{cluster.url}/analytics?timestamp={KEYED_HOUR * MS_PER_HOUR}") as answer,
    ):
        return await answer.text()


def log_times(path: Path) -> list[datetime]:
    """Return what the lines of a log say when they were written."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("{")]
    return [datetime.fromisoformat(json.loads(line)["timestamp"]) for line in lines]


@pytest.mark.parametrize(("name", "fault"), ROWS)
async def test_process_with_a_wrong_clock_loses_nothing_and_knows_every_key(
    tmp_path: Path, rows: list[Row], name: str, fault: Fault
) -> None:
    """Slots go from it and to it meanwhile: ops made by the wrong clock are followed by right ones, and back."""
    clock = WrongClock(tmp_path)

    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        await send_keyed(cluster)
        measurement.begins(f"the clock of {name} is {fault.how}")
        fault.strike(clock)
        began = datetime.now(UTC)
        await send_keyed(cluster)
        for victim in (OTHER, name):
            cluster.kill(victim)
            cluster.restart(victim)
            await send_keyed(cluster)
            await measurement.is_back()
        times = log_times(tmp_path / f"{name}.log")
        assert abs(times[-1] - (began + fault.by)) < NEAR, "the clock was right"
        if not fault.by:
            assert len({time for time in times if time >= began - NEAR and times.count(time) > 1}) == 1
        clock.ahead(0)
        await send_keyed(cluster)
        expected = f"unique_users,{KEYED_USERS}\nclicks,{KEYED_USERS}\nimpressions,0\n"
        assert await keyed_counts(cluster) == expected

    env = {name: clock.environment}
    title = f"clock of {'the gateway' if name == GATEWAY else 'one shard'} {fault.how}"
    row = await measured(tmp_path, strike, fault=title, lease_s=LEASE_S, seed=new_seed(), env=env)
    check(row, rows)
