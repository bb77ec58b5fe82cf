"""What a shard's disk gives back is not what was written: noticed, never served, and repaired from other copies."""

import asyncio
import random
from pathlib import Path
from typing import Final

import pytest

from shard.storage.damage import SET_ASIDE
from tests.faults.probe import Measurement, Row, measured
from tests.faults.rows import LEASE_S, check, new_seed
from tests.support import damage
from tests.support.cluster import Cluster
from tests.support.damage import Damage
from tests.support.waiting import running, until

VICTIM: Final = "s2"
NOTICED_S: Final = 40.0
RUNS_BEFORE_S: Final = 2.0
SUPERVISE_S: Final = 0.5

both_kinds: Final = [
    pytest.param(damage.zero_a_block_of_the_log, id="zeros"),
    pytest.param(damage.flip_a_bit_of_the_log, id="bit", marks=pytest.mark.full),
    pytest.param(damage.cut_the_log, id="cut", marks=pytest.mark.full),
]


@pytest.mark.parametrize("kind", both_kinds)
async def test_damaged_write_ahead_log_is_noticed_and_its_copies_come_back_from_the_others(
    tmp_path: Path, rows: list[Row], kind: Damage
) -> None:
    seed = new_seed()

    async def strike(measurement: Measurement) -> None:
        await asyncio.sleep(RUNS_BEFORE_S)
        await struck(measurement, tmp_path, kind, seed)

    row = await measured(tmp_path, strike, fault=kind.__name__.replace("_", " "), lease_s=LEASE_S, seed=seed)
    check(row, rows)


async def test_bit_flipped_in_a_table_is_noticed_and_its_copies_come_back_from_the_others(
    tmp_path: Path, rows: list[Row]
) -> None:
    seed = new_seed()

    async def strike(measurement: Measurement) -> None:
        # A start puts what was in the log into a table.
        measurement.cluster.kill(VICTIM)
        measurement.cluster.restart(VICTIM)
        await measurement.is_back()
        await struck(measurement, tmp_path, damage.flip_a_bit_of_a_table, seed)

    row = await measured(tmp_path, strike, fault="SST: bit flipped", lease_s=LEASE_S, seed=seed)
    check(row, rows)


async def test_damaged_database_with_the_only_copies_is_refused_until_an_operator_gives_it_up(tmp_path: Path) -> None:
    """Nobody has what is missing, and to go on with the rest would be to serve wrong numbers."""
    seed = new_seed()
    async with Cluster(tmp_path, shards=1, copies=1, slots=8, spread=4, lease_s=LEASE_S) as cluster:
        (name,) = cluster.shards
        cluster.kill(name)
        print(damage.cut_the_log(cluster.data(name), random.Random(seed)))  # noqa: T201
        for _ in range(2):
            cluster.restart(name)
            await until(lambda: cluster.ended() == [name], within_s=NOTICED_S)
            last = (tmp_path / f"{name}.log").read_text().splitlines()[-1]
            assert "no other shard has slots 0, 1, 2, 3, 4, 5, 6, 7;" in last
            assert "--set-damaged-aside" in last
        cluster.env[name] = {"TALLY_SET_DAMAGED_ASIDE": "1"}
        log = tmp_path / f"{name}.log"

        def begins_anew() -> bool:
            return "shard_ready" in log.read_text().partition("database_set_aside")[2]

        async with running(supervise(cluster, name)):
            await until(begins_anew, within_s=NOTICED_S)
            status = await cluster.status()
        assert not status["all_serve"], status


async def struck(measurement: Measurement, path: Path, kind: Damage, seed: int) -> None:
    """Kill the victim, damage its disk, start it again, and hold that it noticed and has all its copies back."""
    cluster = measurement.cluster
    measurement.begins(f"SIGKILL of {VICTIM}")
    cluster.kill(VICTIM)
    print(kind(cluster.data(VICTIM), random.Random(seed)))  # noqa: T201 - pytest shows it with the failure.
    log = path / f"{VICTIM}.log"
    async with running(supervise(cluster, VICTIM)):
        await until(lambda: "database_set_aside" in log.read_text(), within_s=NOTICED_S)
        assert "store_damaged" in log.read_text()
        assert (cluster.data(VICTIM) / SET_ASIDE).is_dir()
        await measurement.is_back()
    status = await cluster.status()
    (found,) = (shard for shard in status["shards"] if shard["id"] == VICTIM)
    assert found["alive"], status


async def supervise(cluster: Cluster, name: str) -> None:
    """Start a shard whenever it has ended: it may notice damage while it runs, and under its new name wait its turn."""
    while True:
        if name in cluster.ended():
            cluster.restart(name)
        await asyncio.sleep(SUPERVISE_S)
