"""Networks that lose packets, or carry few: each shard in a network of its own, joined by a hub. Needs root.

The gateway is where the test is, and etcd, so that clients reach it; its ways to the shards lead through the hub.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.faults.probe import Measurement, Row, measured
from tests.faults.rows import DEFAULT_LEASE_S, check, new_seed
from tests.support.cluster import Cluster
from tests.support.hub import HOST, Hub, NoHub, Weather
from tests.support.proxy import Proxies

SHARDS: Final = ("s1", "s2", "s3")
WEATHER_S: Final = 20.0
SLOW_BYTES_PER_S: Final = 256_000 // 8


@pytest.fixture
def seed() -> int:
    return new_seed()


@pytest.fixture
def hub(seed: int) -> Iterator[Hub]:
    try:
        with Hub(SHARDS, seed=seed) as made:
            yield made
    except NoHub as exc:
        pytest.skip(str(exc))


async def in_weather(path: Path, hub: Hub, weather: Weather, *, fault: str, seed: int) -> Row:
    """Put each shard at a place of the hub; let the weather come and go while there is load."""
    with Proxies() as proxies:

        def place(cluster: Cluster) -> None:
            etcd = proxies.to(lambda: cluster.etcd.endpoint, host=hub.address(HOST)).address
            for shard in cluster.shards:
                cluster.hosts[shard] = hub.address(shard)
                cluster.inside[shard] = hub.inside(shard)
                cluster.etcd_by[shard] = etcd

        async def strike(measurement: Measurement) -> None:
            dropped = hub.dropped
            measurement.begins(str(weather))
            hub.weather = weather
            await asyncio.sleep(WEATHER_S)
            hub.weather = Weather()
            print(f"{hub.passed} packets passed, {hub.dropped - dropped} dropped")  # noqa: T201 - shown with a failure.
            assert hub.dropped > dropped or not weather.loss
            await measurement.is_back()

        return await measured(path, strike, fault=fault, lease_s=DEFAULT_LEASE_S, seed=seed, prepare=place)


@pytest.mark.full
@pytest.mark.parametrize("percent", [10, 30])
async def test_network_that_loses_packets_loses_no_event(
    tmp_path: Path, rows: list[Row], hub: Hub, seed: int, percent: int
) -> None:
    weather = Weather(loss=percent / 100)
    check(await in_weather(tmp_path, hub, weather, fault=f"{percent} % of packets lost", seed=seed), rows)


@pytest.mark.full
async def test_shards_that_256_kbit_per_second_reach_lose_no_event(
    tmp_path: Path, rows: list[Row], hub: Hub, seed: int
) -> None:
    """Each of them; what does not fit is dropped, as at a slow router."""
    weather = Weather(bytes_per_s=SLOW_BYTES_PER_S)
    check(await in_weather(tmp_path, hub, weather, fault="256 kbit/s for a shard", seed=seed), rows)


@pytest.mark.full
async def test_packets_that_take_200_ms_longer_lose_no_event(
    tmp_path: Path, rows: list[Row], hub: Hub, seed: int
) -> None:
    weather = Weather(delay_s=0.2)
    check(await in_weather(tmp_path, hub, weather, fault="200 ms for a packet", seed=seed), rows)
