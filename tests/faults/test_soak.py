"""Everything at once and for long, under load: faults, joins, drains and restarts at random (``make soak``)."""

import asyncio
import random
import time
from pathlib import Path
from typing import Final

import pytest

from tests.faults.probe import Measurement, Row, measured
from tests.faults.resources import Growth, Sample, growth, sample
from tests.faults.rows import LEASE_S, check, new_seed
from tests.faults.soak_faults import LIVES_ON, SoakFaults
from tests.support.cluster import GATEWAY

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


async def test_soak_of_random_faults_loses_nothing_and_grows_nowhere(
    tmp_path: Path, rows: list[Row], pytestconfig: pytest.Config
) -> None:
    minutes = float(pytestconfig.getoption("--minutes"))
    seed = new_seed()
    watches: list[Watch] = []
    faults: list[SoakFaults] = []

    async def strike(measurement: Measurement) -> None:
        watch, soak = Watch(measurement), SoakFaults(measurement.cluster, random.Random(seed), LEASE_S)
        watches.append(watch)
        faults.append(soak)
        watching = asyncio.create_task(watch.run())
        end = time.monotonic() + 60 * minutes
        try:
            while time.monotonic() < end:
                await soak.strike(measurement)
        finally:
            watching.cancel()

    row = await measured(tmp_path, strike, fault=f"soak of {minutes:g} minutes", lease_s=LEASE_S, seed=seed)
    check(row, rows)
    print(dict(faults[0].done))  # noqa: T201 - what the row stands for.
    for name, grown in watches[0].growths(60 * minutes).items():
        print(name, grown)  # noqa: T201
        if 60 * minutes >= 2 * STEADY_AFTER_S:
            assert grown.files_after <= grown.files_before + FILES_GROWTH_MAX
            assert grown.memory_ratio <= MEMORY_GROWTH_MAX
