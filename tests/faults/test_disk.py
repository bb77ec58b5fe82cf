"""Disks that are full, slow, fail, or lose what was not flushed: nothing that was acknowledged is lost."""

import asyncio
import random
from pathlib import Path
from typing import Final

import pytest

from shard.storage.disk import DISK_MAX_S
from tests.faults.probe import Measurement, Row, measured
from tests.faults.rows import LEASE_S, check, new_seed
from tests.support.faulty_disk import FaultyDisk
from tests.support.health_lag import lags_ms, p99
from tests.support.small_disk import fill, free, small_disk
from tests.support.waiting import until

VICTIM: Final = "s2"
SHARDS: Final = ("s1", "s2", "s3")
RUNS_BEFORE_S: Final = 2.0
DISK_MIB: Final = 160  # RocksDB reserves 36 MiB for each of its logs.
FULL_S: Final = 6.0
ENDS_S: Final = 30.0
ROOM_S: Final = 10.0
MEASURED_S: Final = 4.0
LAG_MAX_MS: Final = 50.0
UNLOADED_TIMES: Final = 3  # What else runs on this machine lags too, with and without the fault.


async def test_full_disk_ends_no_start_silently_and_once_there_is_room_all_copies_are_back(
    tmp_path: Path, rows: list[Row]
) -> None:
    disk = tmp_path / "small"

    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        measurement.begins(f"the disk of {VICTIM} is full")
        fill(disk)
        await asyncio.sleep(FULL_S)
        if VICTIM not in cluster.ended():  # What is reserved for its log lasts for a while.
            cluster.kill(VICTIM)
        cluster.restart(VICTIM)
        await until(lambda: VICTIM in cluster.ended(), within_s=ENDS_S)
        last = (tmp_path / f"{VICTIM}.log").read_text().splitlines()[-1]
        assert last.startswith("tally-shard: the store failed: "), last
        assert "No space left on device" in last
        free(disk)
        cluster.restart(VICTIM)
        await measurement.is_back()

    with small_disk(disk, mib=DISK_MIB):
        data = {VICTIM: disk / "data"}
        row = await measured(
            tmp_path, strike, fault="disk full, and freed", lease_s=LEASE_S, seed=new_seed(), data=data
        )
    check(row, rows)
    said = (tmp_path / f"{VICTIM}.log").read_text()
    # It looks every two seconds how full the disk is; one that fills up at once may end it before.
    assert "disk_nearly_full" in said or '"store_failed"' in said


@pytest.mark.full
async def test_flush_that_fails_once_ends_the_shard_and_loses_nothing(tmp_path: Path, rows: list[Row]) -> None:
    disk = FaultyDisk.build(tmp_path / "disk")

    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        measurement.begins(f"a flush of {VICTIM} fails")
        disk.fail_once()
        await until(lambda: VICTIM in cluster.ended(), within_s=ENDS_S)
        assert disk.has_failed
        assert '"store_failed"' in (tmp_path / f"{VICTIM}.log").read_text()
        cluster.restart(VICTIM)
        await measurement.is_back()

    env = {VICTIM: disk.env}
    row = await measured(tmp_path, strike, fault="fsync error once", lease_s=LEASE_S, seed=new_seed(), env=env)
    check(row, rows)


@pytest.mark.parametrize(
    "ms", [pytest.param(20, marks=pytest.mark.full), 200, pytest.param(5_000, marks=pytest.mark.full)]
)
async def test_slow_flushes_do_not_hold_up_the_event_loop_and_lose_nothing(
    tmp_path: Path, rows: list[Row], ms: int
) -> None:
    disk = FaultyDisk.build(tmp_path / "disk")

    async def strike(measurement: Measurement) -> None:
        address = measurement.cluster.address(VICTIM)
        before = p99(await lags_ms(address, MEASURED_S))
        measurement.begins(f"each fsync of {VICTIM} takes {ms} ms")
        disk.slow(ms)
        meanwhile = p99(await lags_ms(address, MEASURED_S + 2 * ms / 1000))
        print(f"health calls, p99: {before:.0f} ms before, {meanwhile:.0f} ms with slow fsyncs")  # noqa: T201
        disk.slow(0)
        await measurement.is_back()
        assert meanwhile < max(LAG_MAX_MS, UNLOADED_TIMES * before)

    env = {VICTIM: disk.env}
    row = await measured(tmp_path, strike, fault=f"fsync takes {ms} ms", lease_s=LEASE_S, seed=new_seed(), env=env)
    check(row, rows)


@pytest.mark.full
async def test_flush_without_an_end_ends_the_shard_and_loses_nothing(tmp_path: Path, rows: list[Row]) -> None:
    disk = FaultyDisk.build(tmp_path / "disk")

    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        measurement.begins(f"each fsync of {VICTIM} takes 30 s")
        began = asyncio.get_running_loop().time()
        disk.slow(30_000)
        await until(lambda: VICTIM in cluster.ended(), within_s=ENDS_S + DISK_MAX_S)
        took = asyncio.get_running_loop().time() - began
        print(f"ended after {took:.1f} s")  # noqa: T201
        assert DISK_MAX_S - 1 <= took <= ENDS_S
        disk.slow(0)
        cluster.restart(VICTIM)
        await measurement.is_back()

    env = {VICTIM: disk.env}
    row = await measured(tmp_path, strike, fault="fsync takes 30 s", lease_s=LEASE_S, seed=new_seed(), env=env)
    check(row, rows)


@pytest.mark.parametrize(
    "victims", [pytest.param((VICTIM,), marks=pytest.mark.full, id="one"), pytest.param(SHARDS, id="all")]
)
async def test_power_cut_takes_what_was_not_flushed_and_loses_nothing(
    tmp_path: Path, rows: list[Row], victims: tuple[str, ...]
) -> None:
    seed = new_seed()
    disks = {name: FaultyDisk.build(tmp_path / f"disk-{name}") for name in SHARDS}

    async def strike(measurement: Measurement) -> None:
        chance, cluster = random.Random(seed), measurement.cluster
        await asyncio.sleep(RUNS_BEFORE_S)
        measurement.begins(f"power cut of {', '.join(victims)}")
        for name in victims:
            cluster.kill(name)
        for name in victims:
            print(f"{name}: {disks[name].power_cut(cluster.data(name), chance)} bytes lost")  # noqa: T201
            cluster.restart(name)
        await measurement.is_back()
        for name in victims:
            assert "store_damaged" not in (tmp_path / f"{name}.log").read_text()

    env = {name: disk.env for name, disk in disks.items()}
    fault = f"power cut, {'all shards' if len(victims) > 1 else 'one shard'}"
    row = await measured(tmp_path, strike, fault=fault, lease_s=LEASE_S, seed=seed, env=env)
    check(row, rows)
