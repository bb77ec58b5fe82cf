"""etcd under load that is restarted, stopped, frozen, full or compacted, or loses a member or a lease.

Reads and writes need no etcd: they go on, no request fails and no slot moves. What needs it waits for it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from tests.faults.probe import Measurement, Row, measured
from tests.faults.rows import (
    FAIL_OVER_MAX_S,
    LEASE_S,
    assert_taken_over,
    check,
    controller_of,
    has_its_share,
    new_seed,
)
from tests.support import commands
from tests.support.cluster import GATEWAY, Cluster
from tests.support.etcd import AnyEtcd, EtcdMembers, EtcdServer, compact, fill, make_room
from tests.support.registered import keys, revoke_lease
from tests.support.waiting import until

# A third of a second on a machine that does nothing else; tests share theirs. But less than etcd is away.
PAUSE_MAX_S: Final = 7.5
MOVES_MAX_S: Final = 60.0
RESTARTS: Final = 3
GONE_S: Final = 300.0
QUOTA_BYTES: Final = 4 * 1024 * 1024


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


@pytest.mark.full
async def test_frozen_etcd_costs_nothing_although_all_leases_run_out(tmp_path: Path, rows: list[Row]) -> None:
    async def strike(measurement: Measurement) -> None:
        etcd = measurement.cluster.etcd
        before = {one["lease"] for one in await keys(etcd, "alive/")}
        measurement.begins("SIGSTOP of etcd")
        etcd.freeze()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(commands_say(etcd, "does not answer"))
                group.create_task(asyncio.sleep(4 * LEASE_S))
        finally:
            etcd.thaw()

        async def others() -> bool:
            return before.isdisjoint({one["lease"] for one in await keys(etcd, "alive/")})

        await until(others)

    await unharmed(tmp_path, rows, strike, fault="SIGSTOP etcd past the lease")


@pytest.mark.full
async def test_lease_revoked_by_hand_is_taken_again_and_no_slot_moves(tmp_path: Path, rows: list[Row]) -> None:
    """The controller's first: with it goes its seat."""

    async def strike(measurement: Measurement) -> None:
        etcd = measurement.cluster.etcd
        controller = await controller_of(measurement)
        shards = sorted(measurement.cluster.shards, key=lambda name: name != controller)
        for shard in shards:
            measurement.begins(f"the lease of {shard} is revoked")
            alive = await revoke_lease(etcd, shard)
            await all_registered(measurement.cluster)
            (again,) = await keys(etcd, f"alive/{shard}")
            assert again["lease"] != alive["lease"]
            assert again["value"] == alive["value"]  # The same process.

    await unharmed(tmp_path, rows, strike, fault="each lease revoked by hand")


@pytest.mark.full
async def test_compacted_etcd_costs_nothing_and_the_map_still_changes(tmp_path: Path, rows: list[Row]) -> None:
    etcd = EtcdServer()

    async def strike(measurement: Measurement) -> None:
        before = await map_written(etcd)
        measurement.begins("etcd is compacted and defragmented")
        await asyncio.to_thread(compact, etcd)
        await asyncio.sleep(LEASE_S)
        assert await map_written(etcd) == before
        await add_shard(measurement)

    row = await measured(
        tmp_path, strike, fault="etcd compacted, a shard added", lease_s=LEASE_S, seed=new_seed(), etcd=etcd
    )
    check(row, rows)
    assert row.unknown_percent == 0
    assert max(row.writes_s, row.reads_s) <= PAUSE_MAX_S


async def add_shard(measurement: Measurement) -> None:
    """Add one, and wait until it has its share."""
    measurement.cluster.add("s4")
    async with asyncio.timeout(MOVES_MAX_S):
        while not await has_its_share(measurement.cluster, "s4"):
            await asyncio.sleep(0.2)
    await measurement.is_back()


async def test_full_etcd_costs_nothing_although_a_lease_is_lost_that_can_not_be_had_again(
    tmp_path: Path, rows: list[Row]
) -> None:
    """Its alarm stands until somebody takes it back, so the commands say what to do."""
    etcd = EtcdServer(quota_bytes=QUOTA_BYTES)

    async def strike(measurement: Measurement) -> None:
        controller = await controller_of(measurement)
        measurement.begins("etcd is filled to its quota")
        await asyncio.to_thread(fill, etcd)
        await revoke_lease(etcd, controller)
        status = await commands.tally("status", "--etcd", etcd.endpoint)
        assert (status.status, status.err) == (0, "")
        assert "etcd is full" in status.out
        assert "controller: none" in status.out
        drain = await commands.tally("drain", "s1", "--etcd", etcd.endpoint)
        assert drain.status == 1
        assert "etcd is full" in drain.err
        assert not await keys(etcd, f"alive/{controller}")
        await asyncio.to_thread(make_room, etcd)

    await unharmed(tmp_path, rows, strike, fault="etcd full, a lease lost", etcd=etcd)


@pytest.mark.full
async def test_shard_killed_while_etcd_is_full_is_replaced_when_there_is_room(tmp_path: Path, rows: list[Row]) -> None:
    """Until then its slots wait."""
    seed = new_seed()
    etcd = EtcdServer(quota_bytes=QUOTA_BYTES)

    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        before = await map_written(etcd)
        await asyncio.to_thread(fill, etcd)
        victim = random.Random(seed).choice(cluster.shards)
        measurement.begins(f"SIGKILL of {victim} while etcd is full")
        cluster.kill(victim)
        await asyncio.sleep(3 * LEASE_S)
        assert await map_written(etcd) == before
        await asyncio.to_thread(make_room, etcd)
        await asyncio.sleep(FAIL_OVER_MAX_S[LEASE_S] + 1)
        await assert_taken_over(cluster, victim)
        cluster.restart(victim)
        await measurement.is_back()

    row = await measured(tmp_path, strike, fault="etcd full, a shard killed", lease_s=LEASE_S, seed=seed, etcd=etcd)
    check(row, rows)


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


@pytest.mark.full
async def test_frozen_leader_of_three_etcd_members_costs_nothing(tmp_path: Path, rows: list[Row]) -> None:
    """Its connections stay open, so each client waits for it once, longer than its lease."""
    etcd = EtcdMembers()

    async def strike(measurement: Measurement) -> None:
        leader = await asyncio.to_thread(etcd.leader)
        measurement.begins(f"SIGSTOP of the leader of etcd, member {leader}")
        etcd.freeze(leader)
        await asyncio.sleep(4 * LEASE_S)
        etcd.thaw(leader)

    await unharmed(tmp_path, rows, strike, fault="SIGSTOP leader of three etcds", etcd=etcd)


@pytest.mark.full
async def test_etcd_without_a_quorum_costs_nothing(tmp_path: Path, rows: list[Row]) -> None:
    etcd = EtcdMembers()

    async def strike(measurement: Measurement) -> None:
        leader = await asyncio.to_thread(etcd.leader)
        measurement.begins("SIGKILL of two of three etcds")
        etcd.stop(leader, (leader + 1) % 3)
        async with asyncio.TaskGroup() as group:
            group.create_task(commands_say(etcd, "no connection", "does not answer"))
            group.create_task(asyncio.sleep(5 * LEASE_S))
        await asyncio.to_thread(etcd.start)

    await unharmed(tmp_path, rows, strike, fault="two of three etcds stopped for 10 s", etcd=etcd)


@pytest.mark.full
async def test_etcd_gone_for_five_minutes_costs_nothing_but_what_falls_meanwhile(
    tmp_path: Path, rows: list[Row]
) -> None:
    """A gateway starts from its map file; the slots of a shard that is killed wait, and go on where they were."""
    seed = new_seed()
    etcd = EtcdServer()

    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        begun = asyncio.get_running_loop().time()
        measurement.begins(f"SIGKILL of etcd, for {GONE_S:.0f} s")
        etcd.stop()
        await asyncio.sleep(GONE_S / 3)
        cluster.kill(GATEWAY)
        cluster.restart(GATEWAY)
        await cluster.wait_ready()
        await asyncio.sleep(GONE_S / 3)
        cluster.kill(random.Random(seed).choice(cluster.shards))
        await asyncio.sleep(begun + GONE_S - asyncio.get_running_loop().time())
        await asyncio.to_thread(etcd.start)
        await asyncio.sleep(FAIL_OVER_MAX_S[LEASE_S] + 1)
        (victim,) = cluster.ended()
        await assert_taken_over(cluster, victim)
        cluster.restart(victim)
        await measurement.is_back()

    row = await measured(tmp_path, strike, fault=f"etcd gone for {GONE_S:.0f} s", lease_s=LEASE_S, seed=seed, etcd=etcd)
    check(row, rows)
    assert max(row.writes_s, row.reads_s) <= GONE_S / 3 + FAIL_OVER_MAX_S[LEASE_S] + PAUSE_MAX_S
