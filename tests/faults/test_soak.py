"""All kinds of faults and planned changes, at random and for long, under load (``make soak``)."""

import asyncio
import random
import time
from pathlib import Path
from typing import Final

import pytest

from tally.command.tables import table
from tests.faults.probe import Measurement, Row, measured
from tests.faults.resources import Growth, Sample, growth, sample
from tests.faults.rows import LEASE_S, check, new_seed
from tests.faults.soak.deck import SHORT_S
from tests.faults.soak.faults import SoakFaults
from tests.faults.soak.ground import LIVES_ON, Ground, Rig
from tests.faults.soak.report import HEADINGS, Cost, worst_by_kind
from tests.support.cluster import GATEWAY
from tests.support.proxy import Proxies
from tests.support.supervised import supervised
from tests.support.waiting import running

STEADY_AFTER_S: Final = 600.0  # Caches and write buffers are full by then.
SAMPLE_EVERY_S: Final = 2.0
MEMORY_GROWTH_MAX: Final = 1.10
FILES_GROWTH_MAX: Final = 32  # Connections come and go with the faults.


class Watch:
    """Samples of the processes that live through it all."""

    def __init__(self, measurement: Measurement) -> None:
        cluster = measurement.cluster
        self._pids = {name: cluster.pid(name) for name in (LIVES_ON, GATEWAY)}
        self._began = time.monotonic()
        self.samples: dict[str, list[Sample]] = {name: [] for name in self._pids}

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            for name, pid in self._pids.items():
                self.samples[name].append(sample(pid, self._began))
            await asyncio.sleep(SAMPLE_EVERY_S)

    def growths(self, seconds: float) -> dict[str, Growth]:
        """Compare the end with minute 10, or with the middle of a shorter soak."""
        steady = min(STEADY_AFTER_S, seconds / 2)
        window = (seconds - steady) / 5
        return {name: growth(samples, steady_from_s=steady, window_s=window) for name, samples in self.samples.items()}


def report(soak: SoakFaults, measurement: Measurement) -> None:
    """Print what each kind of fault cost, and who ended by itself."""
    costs = [
        Cost(struck.kind, *measurement.away_s(struck.begin, struck.end), struck.copies_back_s) for struck in soak.struck
    ]
    print(table(HEADINGS, worst_by_kind(costs)))  # noqa: T201
    print(f"ended by themselves: {dict(soak.ends)}")  # noqa: T201


async def test_soak_of_random_faults_loses_nothing_and_grows_nowhere(
    tmp_path: Path, rows: list[Row], pytestconfig: pytest.Config
) -> None:
    minutes = float(pytestconfig.getoption("--minutes"))
    seed = new_seed()
    watches: list[Watch] = []

    async def strike(measurement: Measurement) -> None:
        ground = Ground(rig, measurement, random.Random(seed), LEASE_S)
        soak, watch = SoakFaults(ground), Watch(measurement)
        watches.append(watch)
        end = time.monotonic() + 60 * minutes
        try:
            async with running(watch.run()), supervised(measurement.cluster, ends=ground.ends, leave=ground.held):
                while (left_s := end - time.monotonic()) >= SHORT_S:
                    await soak.strike(left_s)
        finally:
            report(soak, measurement)  # Also of one that fails.

    with Proxies() as proxies:
        rig = Rig(tmp_path, proxies)
        fault = f"soak of {minutes:g} minutes"
        row = await measured(tmp_path, strike, fault=fault, lease_s=LEASE_S, seed=seed, prepare=rig)
    check(row, rows)
    for name, grown in watches[0].growths(60 * minutes).items():
        print(name, grown)  # noqa: T201
        if 60 * minutes >= 2 * STEADY_AFTER_S:
            assert grown.files_after <= grown.files_before + FILES_GROWTH_MAX
            assert grown.memory_ratio <= MEMORY_GROWTH_MAX
