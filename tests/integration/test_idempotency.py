"""An event that is sent again with its key, through real processes that come and go: it is counted once."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from protos.tally.v1 import analytics_pb2, analytics_pb2_grpc
from tests.support.cluster import GATEWAY, Cluster

TIMESTAMP_MS: Final = 1_720_000_000_000
CLICK: Final = {"timestamp": str(TIMESTAMP_MS), "user": "ann", "click": ""}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path) as started:
        yield started


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20.0)) as session:
        yield session


async def post(http: aiohttp.ClientSession, cluster: Cluster, key: str, **other: str) -> int:
    headers = {"Idempotency-Key": key} if key else {}
    async with http.post(f"{cluster.url}/analytics", params={**CLICK, **other}, headers=headers) as answer:
        return answer.status


async def counted(http: aiohttp.ClientSession, cluster: Cluster) -> str:
    async with http.get(f"{cluster.url}/analytics", params={"timestamp": str(TIMESTAMP_MS)}) as answer:
        return " ".join((await answer.text()).split())


async def test_five_times_through_kills_and_another_gateway_count_once(
    cluster: Cluster, http: aiohttp.ClientSession
) -> None:
    key = str(uuid.uuid4())
    assert await post(http, cluster, key) == 204
    assert await post(http, cluster, key) == 204
    for shard in cluster.shards:
        cluster.kill(shard)
        cluster.restart(shard)
    assert await post(http, cluster, key) == 204
    cluster.kill(GATEWAY)
    cluster.restart(GATEWAY)
    await cluster.wait_ready()
    assert await post(http, cluster, key) == 204
    for name in (*cluster.shards, GATEWAY):
        cluster.kill(name)
        cluster.restart(name)
    await cluster.wait_ready()
    assert await post(http, cluster, key) == 204
    assert await counted(http, cluster) == "unique_users,1 clicks,1 impressions,0"
    assert await post(http, cluster, "") == 204
    assert await counted(http, cluster) == "unique_users,1 clicks,2 impressions,0"


async def test_sent_again_while_the_first_is_in_doubt_counts_once(
    cluster: Cluster, http: aiohttp.ClientSession
) -> None:
    """The first gateway dies with the event in doubt; its client tries the next one, with the key."""
    users = [f"user{number}" for number in range(200)]

    async def send_until_counted(user: str) -> None:
        key = str(uuid.uuid4())
        while True:
            try:
                if await post(http, cluster, key, user=user) == 204:
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)

    sending = [asyncio.create_task(send_until_counted(user)) for user in users]
    await asyncio.sleep(0.02)
    for name in ("s1", GATEWAY, "s2", GATEWAY):
        cluster.kill(name)
        cluster.restart(name)
        await asyncio.sleep(0.05)
    await asyncio.gather(*sending)
    assert await counted(http, cluster) == "unique_users,200 clicks,200 impressions,0"


async def test_same_key_through_http_and_grpc_is_the_same_event(cluster: Cluster, http: aiohttp.ClientSession) -> None:
    assert await post(http, cluster, "one key") == 204
    kinds = (analytics_pb2.KIND_CLICK, analytics_pb2.KIND_CLICK, analytics_pb2.KIND_IMPRESSION)
    events = [
        analytics_pb2.Event(timestamp_ms=TIMESTAMP_MS, user="ann", kind=kind, idempotency_key="one key")
        for kind in kinds
    ]
    for shard in cluster.shards:
        async with grpc.aio.insecure_channel(cluster.address(shard)) as channel:
            stub: analytics_pb2_grpc.AnalyticsAsyncStub = analytics_pb2_grpc.AnalyticsStub(channel)
            await stub.Record(analytics_pb2.RecordRequest(events=events))
    assert await counted(http, cluster) == "unique_users,1 clicks,1 impressions,1"


async def test_bad_key_over_grpc_names_its_event_and_counts_nothing(
    cluster: Cluster, http: aiohttp.ClientSession
) -> None:
    good, bad = (
        analytics_pb2.Event(timestamp_ms=TIMESTAMP_MS, user="ann", kind=analytics_pb2.KIND_CLICK, idempotency_key=key)
        for key in ("k", "a\tb")
    )
    async with grpc.aio.insecure_channel(cluster.address("s1")) as channel:
        stub: analytics_pb2_grpc.AnalyticsAsyncStub = analytics_pb2_grpc.AnalyticsStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Record(analytics_pb2.RecordRequest(events=[good, bad]))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(raised.value)
    assert status is not None
    told = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(told)
    assert [violation.field for violation in told.field_violations] == ["events[1].idempotency_key"]
    assert await counted(http, cluster) == "unique_users,0 clicks,0 impressions,0"
