"""etcd under load that is restarted, stopped, frozen, full or compacted, or loses a member or a lease.

Reads and writes need no etcd: they go on, no request fails and no slot moves. What needs it waits for it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.faults.probe import Measurement, Row, measured
from tests.faults.test_faults import LEASE_S, check, controller_of, has_its_share, kill_shard, new_seed
from tests.support import commands
from tests.support.cluster import Cluster
from tests.support.etcd import EtcdctlFailed, EtcdMembers, EtcdServer
from tests.support.waiting import until

PAUSE_MAX_S: Final = 5.0  # A third of a second on a machine that does nothing else; tests share theirs.
MOVES_MAX_S: Final = 60.0
RESTARTS: Final = 3
GONE_S: Final = 300.0
QUOTA_BYTES: Final = 4 * 1024 * 1024
FILLER_BYTES: Final = 256 * 1024

AnyEtcd = EtcdServer | EtcdMembers


async def control(etcd: AnyEtcd, *arguments: str) -> str:
    """Do what an operator does; meanwhile the probe goes on."""
    return await asyncio.to_thread(etcd.control, *arguments)


async def keys(etcd: AnyEtcd, prefix: str) -> list[dict[str, Any]]:
    """Return the keys of the cluster that begin with ``prefix``, as etcd tells them."""
    said = json.loads(await control(etcd, "get", f"/tally/default/{prefix}", "--prefix", "--write-out=json"))
    found: list[dict[str, Any]] = said.get("kvs", [])
    return found


async def map_written(etcd: AnyEtcd) -> int:
    """Return the revision in which the map was written last: any slot that moves, or loses a copy, raises it."""
    (found,) = await keys(etcd, "map")
    return int(found["mod_revision"])


async def all_registered(cluster: Cluster) -> None:
    """Wait until all shards hold a lease and one of them is the controller, as they did before."""

    async def found() -> bool:
        alive, seats = await keys(cluster.etcd, "alive/"), await keys(cluster.etcd, "controller")
        return len(alive) == len(cluster.shards) and len(seats) == 1

    await until(found)


async def unharmed(
    path: Path,
    rows: list[Row],
    strike: Callable[[Measurement], Awaitable[None]],
    *,
    fault: str,
    etcd: AnyEtcd | None = None,
) -> Row:
    """Measure what ``strike`` costs, and hold that it costs nothing: no request fails, and no slot moves."""

    async def watched(measurement: Measurement) -> None:
        before = await map_written(measurement.cluster.etcd)
        await strike(measurement)
        await all_registered(measurement.cluster)
        await asyncio.sleep(LEASE_S)
        assert await map_written(measurement.cluster.etcd) == before
        await measurement.is_back()

    row = await measured(path, watched, fault=fault, lease_s=LEASE_S, seed=new_seed(), etcd=etcd)
    check(row, rows)
    assert row.unknown_percent == 0
    assert max(row.writes_s, row.reads_s) <= PAUSE_MAX_S
    return row


async def commands_say(etcd: AnyEtcd, *words: str) -> None:
    """Hold that an operator's commands tell in one line what is the matter, and end in time."""
    for command in (("status",), ("members",), ("config",)):
        said = await commands.tally(*command, "--etcd", etcd.endpoint)
        assert (said.status, said.out) == (1, ""), said
        assert len(said.err.splitlines()) == 1, said.err
        assert all(word in said.err for word in (etcd.endpoint, *words)), said.err


@pytest.mark.parametrize("away_s", [8.0, pytest.param(30.0, marks=pytest.mark.full)])
async def test_etcd_stopped_for_longer_than_the_lease_costs_nothing(
    tmp_path: Path, rows: list[Row], away_s: float
) -> None:
    async def strike(measurement: Measurement) -> None:
        etcd = measurement.cluster.etcd
        measurement.begins("SIGKILL of etcd")
        etcd.stop()
        async with asyncio.TaskGroup() as group:
            group.create_task(commands_say(etcd, "does not answer"))
            group.create_task(asyncio.sleep(away_s))
        await asyncio.to_thread(etcd.start)

    await unharmed(tmp_path, rows, strike, fault=f"etcd stopped for {away_s:.0f} s")


@pytest.mark.full
async def test_restarted_etcd_costs_nothing(tmp_path: Path, rows: list[Row]) -> None:
    async def strike(measurement: Measurement) -> None:
        etcd = measurement.cluster.etcd
        for _ in range(RESTARTS):
            measurement.begins("SIGKILL of etcd, and a start at once")
            etcd.stop()
            await asyncio.to_thread(etcd.start)
            await asyncio.sleep(LEASE_S)

    await unharmed(tmp_path, rows, strike, fault=f"etcd restarted, {RESTARTS} times")


async def test_frozen_etcd_costs_nothing_although_all_leases_run_out(tmp_path: Path, rows: list[Row]) -> None:
    async def strike(measurement: Measurement) -> None:
        etcd = measurement.cluster.etcd
        before = {one["lease"] for one in await keys(etcd, "alive/")}
        measurement.begins("SIGSTOP of etcd")
        etcd.freeze()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(commands_say(etcd, "does not answer"))
                group.create_task(asyncio.sleep(3 * LEASE_S))
        finally:
            etcd.thaw()

        async def others() -> bool:
            return before.isdisjoint({one["lease"] for one in await keys(etcd, "alive/")})

        await until(others)

    await unharmed(tmp_path, rows, strike, fault="SIGSTOP etcd past the lease")


async def test_lease_revoked_by_hand_is_taken_again_and_no_slot_moves(tmp_path: Path, rows: list[Row]) -> None:
    """The controller's first: with it goes its seat."""

    async def strike(measurement: Measurement) -> None:
        etcd = measurement.cluster.etcd
        controller = await controller_of(measurement)
        shards = sorted(measurement.cluster.shards, key=lambda name: name != controller)
        for shard in shards:
            measurement.begins(f"the lease of {shard} is revoked")
            (alive,) = await keys(etcd, f"alive/{shard}")
            await control(etcd, "lease", "revoke", f"{alive['lease']:x}")
            await all_registered(measurement.cluster)
            (again,) = await keys(etcd, f"alive/{shard}")
            assert again["lease"] != alive["lease"]
            assert again["value"] == alive["value"]  # The same process.

    await unharmed(tmp_path, rows, strike, fault="each lease revoked by hand")


@pytest.mark.full
async def test_compacted_etcd_costs_nothing_and_the_map_still_changes(tmp_path: Path, rows: list[Row]) -> None:
    async def strike(measurement: Measurement) -> None:
        etcd = measurement.cluster.etcd
        before = await map_written(etcd)
        measurement.begins("etcd is compacted and defragmented")
        await asyncio.to_thread(compact, etcd)
        await asyncio.sleep(LEASE_S)
        assert await map_written(etcd) == before
        await add_shard(measurement)

    row = await measured(tmp_path, strike, fault="etcd compacted, a shard added", lease_s=LEASE_S, seed=new_seed())
    check(row, rows)
    assert row.unknown_percent == 0
    assert max(row.writes_s, row.reads_s) <= PAUSE_MAX_S


def compact(etcd: AnyEtcd) -> None:
    """Forget all revisions but the present one, and give the room back."""
    (found,) = json.loads(etcd.control("endpoint", "status", "--write-out=json"))
    etcd.control("compaction", str(found["Status"]["header"]["revision"]), "--physical")
    etcd.control("defrag")


async def add_shard(measurement: Measurement) -> None:
    """Add one, and wait until it has its share."""
    measurement.cluster.add("s4")
    async with asyncio.timeout(MOVES_MAX_S):
        while not await has_its_share(measurement.cluster, "s4"):
            await asyncio.sleep(0.2)
    await measurement.is_back()


async def test_full_etcd_costs_nothing_and_a_killed_shard_is_handled_when_there_is_room_again(
    tmp_path: Path, rows: list[Row]
) -> None:
    """Its alarm stands until somebody takes it back, so the commands say what to do."""

    async def strike(measurement: Measurement) -> None:
        etcd = measurement.cluster.etcd
        before = await map_written(etcd)
        measurement.begins("etcd is filled to its quota")
        await asyncio.to_thread(fill, etcd)
        await asyncio.sleep(LEASE_S)
        assert await map_written(etcd) == before
        said = await commands.tally("status", "--etcd", etcd.endpoint)
        assert said.status == 0
        assert "etcd is full" in said.out
        refused = await commands.tally("drain", "s1", "--etcd", etcd.endpoint)
        assert refused.status == 1
        assert "etcd is full" in refused.err
        await asyncio.to_thread(make_room, etcd)
        await all_registered(measurement.cluster)
        assert await map_written(etcd) == before
        victim = await controller_of(measurement)
        await kill_shard(measurement, victim, LEASE_S)

    etcd = EtcdServer(quota_bytes=QUOTA_BYTES)
    row = await measured(
        tmp_path, strike, fault="etcd full, then a shard killed", lease_s=LEASE_S, seed=new_seed(), etcd=etcd
    )
    check(row, rows)


def fill(etcd: AnyEtcd) -> None:
    """Write until etcd takes no more, as who shares it may do."""
    for number in range(2 * QUOTA_BYTES // FILLER_BYTES):
        try:
            etcd.control("put", f"/others/{number}", "x" * FILLER_BYTES)
        except EtcdctlFailed as exc:
            assert "space exceeded" in str(exc), exc
            return
    raise AssertionError("etcd did not get full")


def make_room(etcd: AnyEtcd) -> None:
    """Do what etcd's handbook says."""
    etcd.control("del", "--prefix", "/others/")
    compact(etcd)
    etcd.control("alarm", "disarm")


async def test_killed_leader_of_three_etcd_members_costs_nothing(tmp_path: Path, rows: list[Row]) -> None:
    etcd = EtcdMembers()

    async def strike(measurement: Measurement) -> None:
        leader = await asyncio.to_thread(etcd.leader)
        measurement.begins(f"SIGKILL of the leader of etcd, member {leader}")
        etcd.stop(leader)
        await asyncio.sleep(2 * LEASE_S)
        assert await measurement.cluster.status()
        await asyncio.to_thread(etcd.start)

    await unharmed(tmp_path, rows, strike, fault="SIGKILL leader of three etcds", etcd=etcd)
