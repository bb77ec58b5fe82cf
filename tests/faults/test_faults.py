"""Processes that are killed or frozen under load: nothing is lost, doubled or stale, and how long slots are away.

One row of the table for each test. TALLY_TEST_ROUNDS says how often all shards are killed at once; 5 in the long form.
"""

import asyncio
import os
import random
from pathlib import Path
from typing import Final

import pytest

from tests.faults.probe import Measurement, Row, measured
from tests.faults.rows import (
    DEFAULT_LEASE_S,
    FAIL_OVER_MAX_S,
    LEASE_S,
    MOVES_MAX_S,
    assert_taken_over,
    check,
    controller_of,
    has_its_share,
    kill_shard,
    new_seed,
)
from tests.support.cluster import GATEWAY

ROUNDS: Final = int(os.environ.get("TALLY_TEST_ROUNDS", "2"))
GATEWAY_AWAY_S: Final = 1.0
BETWEEN_S: Final = 2.0  # Longer than a gateway pauses before it asks again: each round is an outage of its own.
FROZEN_LONGER_S: Final = 4.0  # Than its lease: until the others must have taken over.

PAUSE_MAX_S: Final = 2.5  # Half a second on a machine that does nothing else; tests share theirs.

both_leases: Final = pytest.mark.parametrize("lease_s", [LEASE_S, DEFAULT_LEASE_S])


@both_leases
async def test_killed_controller_shard_loses_nothing_and_its_slots_are_back_in_time(
    tmp_path: Path, rows: list[Row], lease_s: int
) -> None:
    async def strike(measurement: Measurement) -> None:
        victim = await controller_of(measurement)
        await kill_shard(measurement, victim, lease_s)

    row = await measured(tmp_path, strike, fault="SIGKILL controller's shard", lease_s=lease_s, seed=new_seed())
    check(row, rows)
    assert max(row.writes_s, row.reads_s) <= FAIL_OVER_MAX_S[lease_s]


@both_leases
async def test_killed_primary_and_backup_loses_nothing_and_its_slots_are_back_in_time(
    tmp_path: Path, rows: list[Row], lease_s: int
) -> None:
    seed = new_seed()

    async def strike(measurement: Measurement) -> None:
        controller = await controller_of(measurement)
        victim = random.Random(seed).choice([name for name in measurement.cluster.shards if name != controller])
        await kill_shard(measurement, victim, lease_s)

    row = await measured(tmp_path, strike, fault="SIGKILL primary/backup shard", lease_s=lease_s, seed=seed)
    check(row, rows)
    assert max(row.writes_s, row.reads_s) <= FAIL_OVER_MAX_S[lease_s]


@pytest.mark.parametrize("lease_s", [LEASE_S, pytest.param(DEFAULT_LEASE_S, marks=pytest.mark.full)])
async def test_killed_gateway_loses_no_acknowledged_event(tmp_path: Path, rows: list[Row], lease_s: int) -> None:
    async def strike(measurement: Measurement) -> None:
        measurement.begins("SIGKILL of the gateway")
        measurement.cluster.kill(GATEWAY)
        await asyncio.sleep(GATEWAY_AWAY_S)
        measurement.cluster.restart(GATEWAY)
        await measurement.is_back()
        await measurement.cluster.wait_ready()

    row = await measured(tmp_path, strike, fault="SIGKILL gateway", lease_s=lease_s, seed=new_seed())
    check(row, rows)


async def test_frozen_shard_that_wakes_after_its_lease_serves_nothing_old(tmp_path: Path, rows: list[Row]) -> None:
    """It was primary of a third of the slots, and for itself no time has passed."""
    seed = new_seed()

    async def strike(measurement: Measurement) -> None:
        chance = random.Random(seed)
        victim = chance.choice(measurement.cluster.shards)
        measurement.begins(f"SIGSTOP of {victim}")
        measurement.cluster.stop(victim)
        try:
            await asyncio.sleep(LEASE_S + FROZEN_LONGER_S + chance.uniform(0.0, LEASE_S))
            await assert_taken_over(measurement.cluster, victim)
        finally:
            measurement.cluster.cont(victim)
        await measurement.is_back()

    row = await measured(tmp_path, strike, fault="SIGSTOP shard past its lease", lease_s=LEASE_S, seed=seed)
    check(row, rows)


async def test_added_shard_gets_its_share_and_no_slot_pauses_for_long(tmp_path: Path, rows: list[Row]) -> None:
    """Planned moves: 8 slots get another primary, 24 another copy."""

    async def strike(measurement: Measurement) -> None:
        measurement.begins("s4 is added")
        measurement.cluster.add("s4")
        async with asyncio.timeout(MOVES_MAX_S):
            while not await has_its_share(measurement.cluster, "s4"):
                await asyncio.sleep(0.2)
        await measurement.is_back()

    row = await measured(tmp_path, strike, fault="a shard is added", lease_s=LEASE_S, seed=new_seed())
    check(row, rows)
    assert row.unknown_percent == 0
    assert max(row.writes_s, row.reads_s) <= PAUSE_MAX_S


async def test_all_shards_killed_at_once_and_restarted_in_any_order_lose_nothing(
    tmp_path: Path, rows: list[Row]
) -> None:
    seed = new_seed()

    async def strike(measurement: Measurement) -> None:
        chance = random.Random(seed)
        cluster = measurement.cluster
        for _ in range(ROUNDS):
            order = chance.sample(cluster.shards, len(cluster.shards))
            measurement.begins(f"SIGKILL of all shards; back in the order {order}")
            cluster.kill_shards()
            for name in order:
                await asyncio.sleep(chance.uniform(0.0, LEASE_S))
                cluster.restart(name)
            await measurement.is_back()
            await asyncio.sleep(BETWEEN_S)

    row = await measured(tmp_path, strike, fault=f"SIGKILL all shards, {ROUNDS} times", lease_s=LEASE_S, seed=seed)
    check(row, rows)
