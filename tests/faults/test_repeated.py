"""Requests that are delivered twice, and old ones once more: each kind of call, between processes and from outside."""

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import aiohttp
import grpc.aio
import pytest

from protos.tally.v1 import analytics_pb2, analytics_pb2_grpc
from tally.hashing import MS_PER_HOUR
from tests.faults.probe import Measurement, Row, measured
from tests.faults.rows import (
    FAIL_OVER_MAX_S,
    LEASE_S,
    MOVES_MAX_S,
    check,
    controller_of,
    has_its_share,
    new_seed,
)
from tests.support.cluster import Cluster
from tests.support.events import HOUR
from tests.support.repeated import Deliveries, Repeated

SOON_S: Final = 3.0
LATE_S: Final = 30.0
REPEATS_S: Final = 20.0  # Beyond AGAIN_S: until the last has come.
BETWEEN_SHARDS: Final = {
    *("sub_batches", "reads", "forwards", "heads", "confirms"),
    *("Clone", "ChangeRows", "SwitchSlots", "HintMap", "Status"),
}

soon_and_late: Final = pytest.mark.parametrize("again_s", [SOON_S, pytest.param(LATE_S, marks=pytest.mark.full)])


@pytest.fixture
def repeated(tmp_path: Path, again_s: float) -> Iterator[Repeated]:
    with Repeated(tmp_path, again_s=again_s) as process:
        yield process


async def delivered_again(repeated: Repeated, kinds: set[str], again_s: float) -> dict[str, Deliveries]:
    """Wait until some of all these kinds were delivered once more."""
    end = time.monotonic() + again_s + REPEATS_S
    while True:
        found = repeated.deliveries()
        missing = {kind for kind in kinds if kind not in found or not found[kind].again}
        if not missing:
            return found
        assert time.monotonic() < end, f"{missing} of {found}"
        await asyncio.sleep(0.2)


@pytest.mark.full
@soon_and_late
async def test_every_call_that_is_delivered_twice_and_once_more_when_it_is_old_counts_once(
    tmp_path: Path, rows: list[Row], repeated: Repeated, again_s: float
) -> None:
    """With a failover, a catch-up and moves meanwhile, so that all kinds of calls are there, and old ones are stale."""
    seed = new_seed()

    async def strike(measurement: Measurement) -> None:
        cluster = measurement.cluster
        controller = await controller_of(measurement)
        victim = random.Random(seed).choice([name for name in cluster.shards if name != controller])
        measurement.begins(f"SIGKILL of {victim}, while everything is repeated after {again_s} s")
        cluster.kill(victim)
        await asyncio.sleep(FAIL_OVER_MAX_S[LEASE_S])
        cluster.restart(victim)
        await measurement.is_back()
        async with asyncio.timeout(MOVES_MAX_S):
            while not await has_its_share(cluster, victim):
                await asyncio.sleep(0.2)
        print(await delivered_again(repeated, BETWEEN_SHARDS, again_s))  # noqa: T201 - shown with a failure.
        await measurement.is_back()

    fault = f"all calls twice, and after {again_s:.0f} s"
    row = await measured(tmp_path, strike, fault=fault, lease_s=LEASE_S, seed=seed, prepare=repeated.lay)
    check(row, rows)


@soon_and_late
async def test_public_call_that_is_delivered_twice_and_once_more_when_it_is_old_counts_once(
    tmp_path: Path, repeated: Repeated, again_s: float
) -> None:
    """With keys. Without, each delivery of a ``Record`` is a call of its own, and counts: so says its contract."""
    events = [
        analytics_pb2.Event(
            timestamp_ms=(HOUR + number % 3) * MS_PER_HOUR,
            user=f"u{number % 7}",
            kind=analytics_pb2.KIND_CLICK,
            idempotency_key=f"key {number}",
        )
        for number in range(30)
    ]
    cluster = Cluster(tmp_path, shards=2)
    repeated.lay(cluster)
    async with cluster, grpc.aio.insecure_channel(repeated.address("s1")) as channel:
        stub: analytics_pb2_grpc.AnalyticsAsyncStub = analytics_pb2_grpc.AnalyticsStub(channel)

        async def clicks() -> list[int]:
            asked = [analytics_pb2.GetHourRequest(timestamp_ms=hour * MS_PER_HOUR) for hour in range(HOUR, HOUR + 3)]
            return [(await stub.GetHour(one, timeout=10)).clicks for one in asked]

        for at in range(0, len(events), 10):
            await stub.Record(analytics_pb2.RecordRequest(events=events[at : at + 10]), timeout=10)
        assert await clicks() == [10, 10, 10]
        await delivered_again(repeated, {"Record", "GetHour"}, again_s)
        assert await clicks() == [10, 10, 10]


@soon_and_late
async def test_post_with_a_key_that_is_delivered_twice_and_once_more_when_it_is_old_counts_once(
    tmp_path: Path, again_s: float
) -> None:
    async with Cluster(tmp_path, shards=2) as cluster, aiohttp.ClientSession() as session:
        at_ms = HOUR * MS_PER_HOUR

        async def post(number: int) -> int:
            url = f"{cluster.url}/analytics?timestamp={at_ms}&user=u{number}&click"
            async with session.post(url, headers={"Idempotency-Key": f"key {number}"}) as answer:
                return answer.status

        async def numbers() -> str:
            async with session.get(f"{cluster.url}/analytics?timestamp={at_ms}") as answer:
                return await answer.text()

        once = "unique_users,20\nclicks,20\nimpressions,0\n"
        assert set(await asyncio.gather(*(post(number // 2) for number in range(40)))) == {204}
        assert await numbers() == once
        await asyncio.sleep(again_s)
        assert set(await asyncio.gather(*(post(number) for number in range(20)))) == {204}
        assert await numbers() == once
