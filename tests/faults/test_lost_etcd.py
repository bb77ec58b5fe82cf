"""An etcd that lost its data, or came back with those of an old snapshot: traffic goes on, and nothing is wrong."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tally.cluster.etcd import Etcd, EtcdSettings
from tally.cluster.keys import Keys
from tests.faults.probe import Measurement, Row, measured
from tests.faults.rows import FAIL_OVER_MAX_S, LEASE_S, assert_taken_over, check, new_seed
from tests.support import commands
from tests.support.cluster import Cluster
from tests.support.etcd import single

PATIENT_S: Final = 30.0
IDLE_S: Final = 3.0  # Some plans of a controller, and longer than an answer of a shard is believed.


async def until(what: str, is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENT_S
    while not is_so():
        assert time.monotonic() < end, f"not within {PATIENT_S} s: {what}"
        await asyncio.sleep(0.1)


async def goes_on(measurement: Measurement) -> None:
    """Wait until each slot took a write and was read, both sent after now."""
    since = time.monotonic()
    done = [some for one in measurement._clients.probed for some in (one.writes, one.reads)]
    await until("each slot is written and read", lambda: all(some and some[-1].sent > since for some in done))


async def recover(cluster: Cluster, *more: str) -> commands.Finished:
    return await commands.tally("recover", "--etcd", cluster.etcd.endpoint, "--cluster", cluster.name, *more)


def says(cluster: Cluster, name: str, text: str) -> bool:
    """Whether a process has it in its log."""
    return text in cluster._log(name).read_text(errors="replace")


async def test_wiped_etcd_stops_no_traffic_and_is_recovered_without_a_loss(tmp_path: Path, rows: list[Row]) -> None:
    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        measurement.begins("etcd loses its data")
        await asyncio.to_thread(single(cluster.etcd).wipe)
        await goes_on(measurement)
        cluster.kill("s2")
        cluster.restart("s2")
        await until("the restarted shard waits", lambda: says(cluster, "s2", "tally recover"))
        data = str(cluster.data("s2"))
        for more, status, text in ((("--shards", "3"), 1, "--data"), (("--data", data), 2, "--shards")):
            refused = await recover(cluster, *more)
            assert (refused.status, text in refused.err) == (status, True), refused
        done = await recover(cluster, "--shards", "3", "--data", data)
        assert done.status == 0, done
        assert "recovered: 32 of 32 slots" in done.out, done
        await measurement.is_back()
        again = await recover(cluster)
        assert (again.status, "nothing to recover" in again.err) == (1, True), again

    row = await measured(tmp_path, strike, fault="etcd wiped, tally recover", lease_s=LEASE_S, seed=new_seed())
    check(row, rows)


async def map_in_etcd(cluster: Cluster) -> bytes:
    etcd = Etcd(EtcdSettings(endpoints=(cluster.etcd.endpoint,)))
    try:
        found = await etcd.read(Keys(cluster.name).map)
    finally:
        await etcd.close()
    assert found is not None
    return found.value


@pytest.mark.full
async def test_etcd_restored_from_an_old_snapshot_makes_nobody_act_on_it_and_is_recovered(
    tmp_path: Path, rows: list[Row]
) -> None:
    """First with controllers that know the newer map, then with such that know nothing but etcd and the copies."""

    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        snapshot = await asyncio.to_thread(single(cluster.etcd).snapshot)
        old = await map_in_etcd(cluster)
        measurement.begins("SIGKILL of s1, so that epochs rise")
        cluster.kill("s1")
        await asyncio.sleep(FAIL_OVER_MAX_S[LEASE_S] + 1)
        await assert_taken_over(cluster, "s1")
        cluster.restart("s1")
        await measurement.is_back()
        measurement.begins("etcd is restored")
        await asyncio.to_thread(single(cluster.etcd).restore, snapshot)
        await goes_on(measurement)
        assert (await cluster.status())["map_outdated"]
        assert cluster.ended() == []
        cluster.kill_shards()
        for name in cluster.shards:
            cluster.restart(name)
        await until(
            "a controller notices",
            lambda: any(says(cluster, name, "map_older_than_copies") for name in cluster.shards),
        )
        await asyncio.sleep(IDLE_S)
        assert await map_in_etcd(cluster) == old
        done = await recover(cluster)
        assert done.status == 0, done
        await measurement.is_back()

    fault = "etcd restored from an old snapshot, tally recover"
    row = await measured(tmp_path, strike, fault=fault, lease_s=LEASE_S, seed=new_seed())
    check(row, rows)
