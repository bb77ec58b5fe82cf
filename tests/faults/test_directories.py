"""Data directories under load that are deleted, used twice, or copied to where a second process starts from them."""

import asyncio
import contextlib
import random
import shutil
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from tests.faults.older import copied_while_frozen, put_back
from tests.faults.probe import Measurement, Row, measured
from tests.faults.rows import (
    FAIL_OVER_MAX_S,
    LEASE_S,
    OUTLASTS_A_START_S,
    assert_taken_over,
    check,
    logged,
    new_seed,
)
from tests.support import commands
from tests.support.cluster import Cluster
from tests.support.etcd import free_ports
from tests.support.waiting import until

PAUSE_MAX_S: Final = 7.5  # As in test_etcd.py.
ENDS_S: Final = 20.0
LOAD_GOES_ON_S: Final = 4.0  # What an older directory lacks.


@contextlib.asynccontextmanager
async def second_process(cluster: Cluster, shard: str, data: Path, log: Path) -> AsyncIterator[Process]:
    """Start a second process as ``shard``, on another port, that logs to a file; it is gone when the block ends."""
    public, internal = free_ports(2)
    arguments = {
        "--etcd": cluster.etcd.endpoint,
        "--id": shard,
        "--data": str(data),
        "--listen": f"127.0.0.1:{public}",
        "--peer-listen": f"127.0.0.1:{internal}",
        "--lease-s": str(LEASE_S),
    }
    words = [word for pair in arguments.items() for word in pair]
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "shard", *words), stdout=out, stderr=out, env=commands.environment()
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def without(measurement: Measurement, victim: str) -> None:
    """Kill a shard, and wait until the others have taken over."""
    measurement.cluster.kill(victim)
    await asyncio.sleep(FAIL_OVER_MAX_S[LEASE_S] + 1)
    await assert_taken_over(measurement.cluster, victim)


@pytest.mark.full
async def test_deleted_directory_is_filled_again_from_the_other_copies(tmp_path: Path, rows: list[Row]) -> None:
    seed = new_seed()

    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        victim = random.Random(seed).choice(cluster.shards)
        measurement.begins(f"SIGKILL of {victim}, and its directory is deleted")
        await without(measurement, victim)
        await asyncio.to_thread(shutil.rmtree, cluster.data(victim))
        cluster.restart(victim)
        await measurement.is_back()

    row = await measured(tmp_path, strike, fault="directory deleted", lease_s=LEASE_S, seed=seed)
    check(row, rows)


@pytest.mark.full
async def test_directory_started_twice_is_refused_to_the_second_and_the_first_goes_on(
    tmp_path: Path, rows: list[Row]
) -> None:
    seed = new_seed()

    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        victim = random.Random(seed).choice(cluster.shards)
        measurement.begins(f"a second process starts on the directory of {victim}")
        log = tmp_path / "second.log"
        async with second_process(cluster, victim, cluster.data(victim), log) as second, asyncio.timeout(ENDS_S):
            assert await second.wait() == 1
        said = log.read_text()
        assert str(cluster.data(victim)) in said.splitlines()[-1], said
        assert "Traceback" not in said
        assert cluster.ended() == []
        await measurement.is_back()

    row = await measured(tmp_path, strike, fault="directory started twice", lease_s=LEASE_S, seed=seed)
    check(row, rows)
    assert row.unknown_percent == 0
    assert max(row.writes_s, row.reads_s) <= PAUSE_MAX_S


@pytest.mark.full
async def test_copied_directory_ends_the_first_process_and_the_second_serves_nothing_old(
    tmp_path: Path, rows: list[Row]
) -> None:
    """As on two machines, where no lock is in the way. What was copied has missed what the first has counted since."""
    seed = new_seed()

    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        victim = random.Random(seed).choice(cluster.shards)
        measurement.begins(f"SIGKILL of {victim}; its directory is copied, and later started too")
        await without(measurement, victim)
        copied = tmp_path / "copied"
        await asyncio.to_thread(shutil.copytree, cluster.data(victim), copied)
        cluster.restart(victim)
        await measurement.is_back()
        async with second_process(cluster, victim, copied, tmp_path / "second.log") as second:
            await until(lambda: cluster.ended() == [victim], within_s=ENDS_S)
            await measurement.is_back()
            assert second.returncode is None
        cluster.restart(victim)
        await measurement.is_back()

    row = await measured(tmp_path, strike, fault="directory copied and started", lease_s=LEASE_S, seed=seed)
    check(row, rows)


@pytest.mark.full
@pytest.mark.parametrize("taken_over", [False, True])
async def test_older_directory_put_back_renounces_its_copies_and_loses_nothing(
    tmp_path: Path, rows: list[Row], taken_over: bool
) -> None:
    """If nobody took over, the shard is still primary, of slots in which the others have what it lost."""
    seed = new_seed()

    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        victim = random.Random(seed).choice(cluster.shards)
        older = tmp_path / "older"
        await copied_while_frozen(cluster, victim, older)
        await asyncio.sleep(LOAD_GOES_ON_S)
        await measurement.is_back()  # What only the victim has, if others are out of its sets, would be lost indeed.
        measurement.begins(f"SIGKILL of {victim}, and an older state of its directory is put back")
        if taken_over:
            await without(measurement, victim)
        else:
            cluster.kill(victim)
        await put_back(cluster, victim, older)
        cluster.restart(victim)
        await measurement.is_back()
        expected = {"copies_joined"} if taken_over else {"copy_renounced", "copies_joined"}
        assert expected <= logged(tmp_path, victim)

    when = "after fail-over" if taken_over else "before fail-over"
    lease_s = LEASE_S if taken_over else OUTLASTS_A_START_S
    row = await measured(tmp_path, strike, fault=f"older directory put back {when}", lease_s=lease_s, seed=seed)
    check(row, rows)
