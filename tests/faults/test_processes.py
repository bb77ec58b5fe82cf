"""Processes that stand still again and again, or are killed again and again: nothing is lost, doubled or stale.

Two rows run in CI; all combinations are in the long form.
"""

import asyncio
import random
from pathlib import Path
from typing import Final

import pytest

from tests.faults.probe import Measurement, Row, measured
from tests.faults.rows import LEASE_S, check, controller_of, new_seed
from tests.support.cluster import GATEWAY

CONTROLLER: Final = "the controller's shard"
PRIMARY: Final = "another primary's shard"
STOPS: Final = 3
BETWEEN_STOPS_S: Final = 1.0
KILLS: Final = 5
KILLS_FULL: Final = 50
BETWEEN_KILLS_MAX_S: Final = 2.0  # Twice as long as a start takes: some come while it starts, some while it catches up.

COMBINATIONS: Final = [
    pytest.param(role, leases, marks=() if (role, leases) == (CONTROLLER, 1.0) else pytest.mark.full)
    for role in (CONTROLLER, PRIMARY, GATEWAY)
    for leases in (0.5, 1.0, 3.0)
]


async def process_of(measurement: Measurement, role: str, chance: random.Random) -> str:
    """Return who has this role at present."""
    if role == GATEWAY:
        return GATEWAY
    controller = await controller_of(measurement)
    if role == CONTROLLER:
        return controller
    return chance.choice([name for name in measurement.cluster.shards if name != controller])


@pytest.mark.parametrize(("role", "leases"), COMBINATIONS)
async def test_process_that_is_stopped_and_goes_on_loses_nothing_and_serves_nothing_old(
    tmp_path: Path, rows: list[Row], role: str, leases: float
) -> None:
    """For a shard no time has passed when it goes on: it must find out that others have taken over."""
    seed = new_seed()

    async def strike(measurement: Measurement) -> None:
        chance = random.Random(seed)
        for _ in range(STOPS):
            victim = await process_of(measurement, role, chance)
            measurement.begins(f"SIGSTOP of {victim}")
            measurement.cluster.stop(victim)
            try:
                await asyncio.sleep(leases * LEASE_S)
            finally:
                measurement.cluster.cont(victim)
            await measurement.is_back()
            await asyncio.sleep(BETWEEN_STOPS_S)

    fault = f"SIGSTOP {role}, {STOPS} x {leases} leases"
    row = await measured(tmp_path, strike, fault=fault, lease_s=LEASE_S, seed=seed)
    check(row, rows)


@pytest.mark.parametrize("kills", [KILLS, pytest.param(KILLS_FULL, marks=pytest.mark.full)])
async def test_shard_that_is_killed_again_and_again_loses_nothing(tmp_path: Path, rows: list[Row], kills: int) -> None:
    """Each time it is started again at once, and killed whatever it does by then."""
    seed = new_seed()

    async def strike(measurement: Measurement) -> None:
        chance = random.Random(seed)
        victim = chance.choice(measurement.cluster.shards)
        for _ in range(kills):
            measurement.begins(f"SIGKILL of {victim}")
            measurement.cluster.kill(victim)
            measurement.cluster.restart(victim)
            await asyncio.sleep(chance.uniform(0.0, BETWEEN_KILLS_MAX_S))
        await measurement.is_back()

    row = await measured(tmp_path, strike, fault=f"SIGKILL one shard, {kills} times", lease_s=LEASE_S, seed=seed)
    check(row, rows)
