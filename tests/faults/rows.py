"""What the rows of the fault matrix share: leases and limits, the seed, and what every row is held against."""

import asyncio
import json
import secrets
from pathlib import Path
from typing import Final

from tally.cluster.etcd import Etcd, EtcdSettings
from tally.cluster.keys import Keys
from tally.cluster.slot_map import SlotMap
from tally.cluster.state import ClusterState
from tests.faults.probe import Measurement, Row, cells
from tests.support.cluster import Cluster

LEASE_S: Final = 2
DEFAULT_LEASE_S: Final = 10
FAIL_OVER_MAX_S: Final = {LEASE_S: 5.0, DEFAULT_LEASE_S: 13.0}
MOVES_MAX_S: Final = 60.0
OUTLASTS_A_START_S: Final = 30  # A lease under which nobody takes over from a process that is started again.


def new_seed() -> int:
    """Draw a seed, and print it for whoever must repeat the test."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it with the failure.
    return seed


def check(row: Row, rows: list[Row]) -> None:
    """Keep the row, and hold it against what is promised at any fault; reads were checked while they were made."""
    rows.append(row)
    print(cells(row))  # noqa: T201
    assert (row.lost, row.doubled) == (0, 0)


async def assert_taken_over(cluster: Cluster, victim: str) -> None:
    """Hold that the others serve all slots; else the fault did not do what the test is about."""
    status = await cluster.status()
    assert status["all_serve"], status
    (found,) = (shard for shard in status["shards"] if shard["id"] == victim)
    assert (found["alive"], found["slots"]) == (False, 0), status


async def kill_shard(measurement: Measurement, victim: str, lease_s: int) -> None:
    """Kill a shard, and start it again only when the others must have taken over."""
    cluster = measurement.cluster
    measurement.begins(f"SIGKILL of {victim}")
    cluster.kill(victim)
    await asyncio.sleep(FAIL_OVER_MAX_S[lease_s] + 1)
    await assert_taken_over(cluster, victim)
    cluster.restart(victim)
    await measurement.is_back()


async def controller_of(measurement: Measurement) -> str:
    """Return which shard is the controller."""
    controller: str | None = (await measurement.cluster.status())["controller"]
    assert controller is not None
    return controller


async def has_its_share(cluster: Cluster, name: str) -> bool:
    """Tell whether a shard that was added is primary of its share, and nothing moves any more."""
    status = await cluster.status()
    slots = [shard["slots"] for shard in status["shards"] if shard["id"] == name]
    return bool(slots) and status["moves"] == 0 and slots[0] >= status["slots"] // len(status["shards"]) - 1


async def map_of(cluster: Cluster) -> SlotMap:
    """Return the map that etcd has."""
    etcd, keys = Etcd(EtcdSettings(endpoints=(cluster.etcd.endpoint,))), Keys(cluster.name)
    try:
        found = await etcd.read_prefix(keys.prefix)
    finally:
        await etcd.close()
    state = ClusterState.from_etcd(keys, found.found)
    assert state.map is not None
    return state.map


def logged(directory: Path, shard: str) -> set[str]:
    """Return which events a shard logged."""
    return {json.loads(line)["event"] for line in (directory / f"{shard}.log").read_text().splitlines()}
