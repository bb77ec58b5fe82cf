"""Networks that are cut, in every way in which three nodes can be: nothing is lost, doubled or stale, and all heal.

One row of the table for each test. What is cut is silent, as packets that vanish are: nobody is refused or reset.
"""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tally.cluster.slot_map import SlotMap
from tests.faults.probe import Measurement, Row, measured
from tests.faults.rows import (
    DEFAULT_LEASE_S,
    LEASE_S,
    MOVES_MAX_S,
    assert_taken_over,
    check,
    controller_of,
    has_its_share,
    map_of,
    new_seed,
)
from tests.support.cluster import GATEWAY, Cluster
from tests.support.proxy import Line, Proxies
from tests.support.wires import ETCD, Wires

# Generous, for tests share their machine; the table has what it was.
FAIL_OVER_MAX_S: Final = {LEASE_S: 10.0, DEFAULT_LEASE_S: 20.0}  # A silent node costs time-outs beside the lease.
TAKEN_OUT_MAX_S: Final = 10.0  # A backup: 2 s of silence, then the controller, the map, and what waited.
BY_DETOUR_MAX_S: Final = 18.0  # The same, when the controller is reached through another; less than LONG_S, the cut.
NOTICED_S: Final = 10.0  # A connection that is dead: 7 s by keepalive, then a new one, and an attempt of 2 s.
NOTICED_MAX_S: Final = 15.0
LONG_S: Final = 20.0

both_leases: Final = pytest.mark.parametrize(
    "lease_s", [LEASE_S, pytest.param(DEFAULT_LEASE_S, marks=pytest.mark.full)]
)


@pytest.fixture
def proxies() -> Iterator[Proxies]:
    with Proxies() as ways:
        yield ways


class Wired:
    """Lays all ways between the processes of a cluster before it starts."""

    def __init__(self, proxies: Proxies) -> None:
        self._proxies = proxies

    def __call__(self, cluster: Cluster) -> None:
        self.wires = Wires(self._proxies, cluster)


def epochs(slot_map: SlotMap) -> int:
    """Return how many changes of rows there were: it grows by one with each."""
    return sum(row.epoch for row in slot_map.rows)


async def any_shard(measurement: Measurement, seed: int) -> str:
    """Return one: the controller in one of two runs."""
    chance = random.Random(f"{seed} victim")
    controller = await controller_of(measurement)
    others = [name for name in measurement.cluster.shards if name != controller]
    victim = chance.choice([controller, chance.choice(others)])
    print(f"{victim} of {measurement.cluster.shards}, controller {controller}")  # noqa: T201 - shown with a failure.
    return victim


@both_leases
async def test_shard_that_is_cut_off_from_all_is_replaced_like_a_dead_one(
    tmp_path: Path, rows: list[Row], proxies: Proxies, lease_s: int
) -> None:
    """It runs on, believes itself primary of a third of the slots, and hears nothing of its successors."""
    seed, wired = new_seed(), Wired(proxies)

    async def strike(measurement: Measurement) -> None:
        victim = await any_shard(measurement, seed)
        measurement.begins(f"{victim} is cut off from all")
        wired.wires.cut_off(victim)
        await asyncio.sleep(FAIL_OVER_MAX_S[lease_s] + 1)
        await assert_taken_over(measurement.cluster, victim)
        wired.wires.heal()
        await measurement.is_back()

    row = await measured(tmp_path, strike, fault="shard cut off from all", lease_s=lease_s, seed=seed, prepare=wired)
    check(row, rows)
    assert max(row.writes_s, row.reads_s) <= FAIL_OVER_MAX_S[lease_s]


async def test_shard_that_is_cut_off_from_etcd_serves_on_and_no_slot_moves(
    tmp_path: Path, rows: list[Row], proxies: Proxies
) -> None:
    """Its lease runs out; but it answers the controller's call, so it is not dead."""
    seed, wired = new_seed(), Wired(proxies)

    async def strike(measurement: Measurement) -> None:
        victim = await any_shard(measurement, seed)
        before = await map_of(measurement.cluster)
        measurement.begins(f"{victim} is cut off from etcd")
        wired.wires.cut(victim, ETCD)
        await asyncio.sleep(3 * LEASE_S + 2)
        (found,) = (one for one in (await measurement.cluster.status())["shards"] if one["id"] == victim)
        assert not found["alive"]  # Else it was not cut off.
        wired.wires.heal()
        await measurement.is_back()
        assert await map_of(measurement.cluster) == before

    row = await measured(tmp_path, strike, fault="shard cut off from etcd", lease_s=LEASE_S, seed=seed, prepare=wired)
    check(row, rows)
    assert max(row.writes_s, row.reads_s) <= TAKEN_OUT_MAX_S


@pytest.mark.parametrize("whom", ["controller", pytest.param("other", marks=pytest.mark.full)])
async def test_backup_that_its_primary_can_not_reach_is_taken_out_and_the_others_go_on(
    tmp_path: Path, rows: list[Row], proxies: Proxies, whom: str
) -> None:
    """Two shards are cut from each other; both are backups of the other's slots, and one may be the controller."""
    seed, wired = new_seed(), Wired(proxies)

    async def strike(measurement: Measurement) -> None:
        controller = await controller_of(measurement)
        one, other = random.Random(seed).sample([name for name in measurement.cluster.shards if name != controller], 2)
        peer = controller if whom == "controller" else other
        primaries = [row.primary for row in (await map_of(measurement.cluster)).rows]
        measurement.begins(f"{one} and {peer} are cut from each other; the controller is {controller}")
        wired.wires.cut(one, peer)
        async with asyncio.timeout(BY_DETOUR_MAX_S):
            while any(
                {one, peer} <= set(row.in_sync)
                for row in (await map_of(measurement.cluster)).rows
                if row.primary in {one, peer}
            ):
                await asyncio.sleep(0.2)
        assert [row.primary for row in (await map_of(measurement.cluster)).rows] == primaries
        wired.wires.heal()
        await measurement.is_back()

    fault = f"primary cut from {whom}"
    row = await measured(tmp_path, strike, fault=fault, lease_s=LEASE_S, seed=seed, prepare=wired)
    check(row, rows)
    assert max(row.writes_s, row.reads_s) <= BY_DETOUR_MAX_S


@pytest.mark.full
@pytest.mark.parametrize("whom", ["controller", "other"])
@pytest.mark.parametrize("mute", [True, False], ids=["mute", "deaf"])
async def test_way_that_leads_in_one_direction_only_loses_nothing(
    tmp_path: Path, rows: list[Row], proxies: Proxies, whom: str, mute: bool
) -> None:
    """Between two shards; the mute one hears the other, the deaf one is heard."""
    seed, wired = new_seed(), Wired(proxies)

    async def strike(measurement: Measurement) -> None:
        controller = await controller_of(measurement)
        one, other = random.Random(seed).sample([name for name in measurement.cluster.shards if name != controller], 2)
        peer = controller if whom == "controller" else other
        measurement.begins(f"{one} is {'mute' if mute else 'deaf'} to {peer}; the controller is {controller}")
        wired.wires.block(*((one, peer) if mute else (peer, one)))
        await asyncio.sleep(LONG_S)
        wired.wires.heal()
        await measurement.is_back()

    fault = f"shard {'mute' if mute else 'deaf'} towards {whom}"
    row = await measured(tmp_path, strike, fault=fault, lease_s=LEASE_S, seed=seed, prepare=wired)
    check(row, rows)
    assert max(row.writes_s, row.reads_s) <= BY_DETOUR_MAX_S


@pytest.mark.full
@pytest.mark.parametrize("mute", [True, False], ids=["mute", "deaf"])
async def test_shard_that_is_mute_or_deaf_towards_all_is_replaced(
    tmp_path: Path, rows: list[Row], proxies: Proxies, mute: bool
) -> None:
    seed, wired = new_seed(), Wired(proxies)

    async def strike(measurement: Measurement) -> None:
        victim = await any_shard(measurement, seed)
        measurement.begins(f"{victim} is {'mute' if mute else 'deaf'}")
        for name in {*measurement.cluster.shards, GATEWAY, ETCD} - {victim}:
            wired.wires.block(*((victim, name) if mute else (name, victim)))
        await asyncio.sleep(FAIL_OVER_MAX_S[LEASE_S] + 1)
        await assert_taken_over(measurement.cluster, victim)
        wired.wires.heal()
        await measurement.is_back()

    fault = f"shard {'mute' if mute else 'deaf'} towards all"
    row = await measured(tmp_path, strike, fault=fault, lease_s=LEASE_S, seed=seed, prepare=wired)
    check(row, rows)
    assert max(row.writes_s, row.reads_s) <= FAIL_OVER_MAX_S[LEASE_S]


@pytest.mark.full
@pytest.mark.parametrize("copies", [2, 3])
async def test_shard_that_joins_while_two_are_cut_from_each_other_gets_its_share(
    tmp_path: Path, rows: list[Row], proxies: Proxies, copies: int
) -> None:
    """A-B and B-C but not A-C: what can move moves, the rest waits, and nothing goes to and fro.

    With two copies a slot that A and C keep takes no writes meanwhile: it has fewer than ``min_copies``.
    """
    seed, wired = new_seed(), Wired(proxies)

    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        one, other = random.Random(seed).sample(cluster.shards, 2)
        measurement.begins(f"{one} and {other} are cut from each other, and s4 is added")
        wired.wires.cut(one, other)
        cluster.add("s4")
        await asyncio.sleep(LONG_S)
        settled = epochs(await map_of(cluster))
        await asyncio.sleep(LONG_S)
        assert epochs(await map_of(cluster)) - settled <= len((await map_of(cluster)).rows)
        assert (await cluster.status())["all_serve"]
        wired.wires.heal()
        async with asyncio.timeout(MOVES_MAX_S):
            while not await has_its_share(cluster, "s4"):
                await asyncio.sleep(0.2)
        await measurement.is_back()

    row = await measured(
        tmp_path,
        strike,
        fault=f"A-B, B-C, not A-C; {copies} copies",
        lease_s=LEASE_S,
        seed=seed,
        prepare=wired,
        copies=copies,
    )
    check(row, rows)
    assert row.reads_s <= BY_DETOUR_MAX_S
    assert copies == 2 or row.writes_s <= BY_DETOUR_MAX_S


async def test_connections_that_are_dead_without_a_word_are_replaced_in_time(
    tmp_path: Path, rows: list[Row], proxies: Proxies
) -> None:
    """As when a firewall forgets them: nothing comes through, nobody is told, and a new one would do."""
    seed, wired = new_seed(), Wired(proxies)

    async def strike(measurement: Measurement) -> None:
        victim = await any_shard(measurement, seed)
        measurement.begins(f"all connections of {victim} are dead")
        wired.wires.strand(victim)
        await asyncio.sleep(NOTICED_S)
        await measurement.is_back()

    row = await measured(
        tmp_path, strike, fault="half-open connections", lease_s=DEFAULT_LEASE_S, seed=seed, prepare=wired
    )
    check(row, rows)
    assert max(row.writes_s, row.reads_s) <= NOTICED_MAX_S


@pytest.mark.full
async def test_gateway_whose_connections_are_dead_without_a_word_replaces_them_in_time(
    tmp_path: Path, rows: list[Row], proxies: Proxies
) -> None:
    seed, wired = new_seed(), Wired(proxies)

    async def strike(measurement: Measurement) -> None:
        measurement.begins("all connections of the gateway are dead")
        wired.wires.strand(GATEWAY)
        await asyncio.sleep(NOTICED_S)
        await measurement.is_back()

    row = await measured(
        tmp_path, strike, fault="half-open, gateway's", lease_s=DEFAULT_LEASE_S, seed=seed, prepare=wired
    )
    check(row, rows)
    assert max(row.writes_s, row.reads_s) <= NOTICED_MAX_S


@pytest.mark.full
async def test_network_that_takes_200_ms_longer_loses_nothing_and_moves_nothing(
    tmp_path: Path, rows: list[Row], proxies: Proxies
) -> None:
    """In each direction, on every way: a write takes a second, and it is served."""
    seed, wired = new_seed(), Wired(proxies)

    async def strike(measurement: Measurement) -> None:
        before = [row.primary for row in (await map_of(measurement.cluster)).rows]
        measurement.begins("everything takes 200 ms longer")
        wired.wires.all_are(Line(delay_s=0.2))
        await asyncio.sleep(LONG_S)
        assert [row.primary for row in (await map_of(measurement.cluster)).rows] == before
        wired.wires.all_are(Line())
        await measurement.is_back()

    row = await measured(
        tmp_path, strike, fault="200 ms in each direction", lease_s=DEFAULT_LEASE_S, seed=seed, prepare=wired
    )
    check(row, rows)
    assert max(row.writes_s, row.reads_s) <= TAKEN_OUT_MAX_S


@pytest.mark.full
async def test_network_that_carries_256_kbit_per_second_loses_nothing(
    tmp_path: Path, rows: list[Row], proxies: Proxies
) -> None:
    """On every connection; less than the load needs, so copies and requests fall behind."""
    seed, wired = new_seed(), Wired(proxies)

    async def strike(measurement: Measurement) -> None:
        measurement.begins("256 kbit/s")
        wired.wires.all_are(Line(bytes_per_s=256_000 // 8))
        await asyncio.sleep(LONG_S)
        wired.wires.all_are(Line())
        await measurement.is_back()

    row = await measured(tmp_path, strike, fault="256 kbit/s", lease_s=DEFAULT_LEASE_S, seed=seed, prepare=wired)
    check(row, rows)
