"""One hour with very many users, while a shard that is primary of a third of it is killed."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import aiohttp
import grpc.aio
import pytest

from protos.tally.v1 import analytics_pb2, analytics_pb2_grpc
from tally.hashing import MS_PER_HOUR
from tests.faults.probe import COPIES, Row
from tests.faults.rows import FAIL_OVER_MAX_S, LEASE_S, assert_taken_over, check
from tests.support.checking_clients import Clients, Numbers
from tests.support.cluster import Cluster
from tests.support.events import HOUR

CALL_EVENTS: Final = 1000
CALLERS: Final = 6
CALL_S: Final = 9.0
AGAIN_S: Final = 0.1
VICTIM: Final = "s2"


class Loader:
    """Callers that send every user's click, each call again until it is acknowledged, to whichever shard answers."""

    def __init__(self, cluster: Cluster, clients: Clients, users: int) -> None:
        self._channels = [grpc.aio.insecure_channel(cluster.address(shard)) for shard in cluster.shards]
        self._stubs: list[analytics_pb2_grpc.AnalyticsAsyncStub] = [
            analytics_pb2_grpc.AnalyticsStub(channel) for channel in self._channels
        ]
        (self._hour,) = clients.hours
        self._calls: Iterator[range] = (
            range(first, min(first + CALL_EVENTS, users)) for first in range(0, users, CALL_EVENTS)
        )
        self.users = users
        self.counted = 0
        self.refused = 0
        self.answered: list[float] = []

    async def run(self) -> None:
        """Send all of them."""
        try:
            await asyncio.gather(*[self._caller(number) for number in range(CALLERS)])
        finally:
            for channel in self._channels:
                await channel.close()

    async def _caller(self, number: int) -> None:
        for users in self._calls:
            names = [f"user-{user}" for user in users]
            request = analytics_pb2.RecordRequest()
            for name in names:
                self._hour.sent.add(name, "click")
                request.events.add(
                    timestamp_ms=HOUR * MS_PER_HOUR,
                    user=name,
                    kind=analytics_pb2.KIND_CLICK,
                    idempotency_key=f"key of {name}",
                )
            for shard in itertools.count(number):
                try:
                    await self._stubs[shard % len(self._stubs)].Record(request, timeout=CALL_S)
                    break
                except grpc.aio.AioRpcError as exc:
                    if exc.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                        raise
                    self.refused += 1
                    await asyncio.sleep(AGAIN_S)
            self.counted += len(names)
            self.answered.append(time.monotonic())
            for name in names:
                self._hour.acknowledged.add(name, "click")


async def kill_in_the_middle(cluster: Cluster, loader: Loader) -> None:
    while loader.counted < loader.users // 3:
        await asyncio.sleep(0.02)
    cluster.kill(VICTIM)
    assert loader.counted < loader.users // 2, "it was not in the middle"
    await asyncio.sleep(FAIL_OVER_MAX_S[LEASE_S] + 1)
    await assert_taken_over(cluster, VICTIM)
    cluster.restart(VICTIM)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("users", [60_000, pytest.param(1_000_000, marks=pytest.mark.full)])
async def test_hot_hour_with_a_million_users_during_a_failover_is_counted_exactly(
    tmp_path: Path, rows: list[Row], users: int
) -> None:
    """A short form of it in CI: 60,000."""
    cluster_of = Cluster(tmp_path, copies=COPIES, lease_s=LEASE_S)
    timeout = aiohttp.ClientTimeout(total=12.0)
    async with cluster_of as cluster, aiohttp.ClientSession(timeout=timeout) as session:
        clients = Clients(session, cluster.url, hours=(HOUR,), seed=0)
        (hour,) = clients.hours
        loader = Loader(cluster, clients, users)
        began = time.monotonic()
        loading = asyncio.create_task(loader.run())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(kill_in_the_middle(cluster, loader))
                group.create_task(clients.read(hour, lambda: not loading.done()))
                await loading
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
        took_s = loader.answered[-1] - began
        pause_s = max(later - earlier for earlier, later in itertools.pairwise(loader.answered))
        print(  # noqa: T201 - what the row says.
            f"{users} users in {took_s:.1f} s: {users / took_s:.0f} events/s, without the longest pause "
            f"{users / (took_s - pause_s):.0f}; {loader.refused} calls sent again, {hour.reads} reads"
        )
        told = await clients.read_once(hour)
    assert told == Numbers(users, users, 0)
    check(Row(f"hot hour of {users} users, SIGKILL shard", LEASE_S, 0, 0, 0.0, pause_s, 0.0, 0.0), rows)
