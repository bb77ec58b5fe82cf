"""A shard whose disk is nearly full: its clients learn it at once, and are served again as soon as there is room."""

import asyncio
import json
import time
from pathlib import Path
from typing import Final

import aiohttp
import grpc.aio
import pytest

from protos.tally.v1 import analytics_pb2, analytics_pb2_grpc
from shard.storage.room import EVENTS_UP_TO
from tests.support.cluster import Cluster
from tests.support.small_disk import fill_up_to, free, small_disk
from tests.support.waiting import until

DISK_MIB: Final = 400
FULL: Final = EVENTS_UP_TO + 0.01
HOUR_MS: Final = 1_767_225_600_000
AT_ONCE_S: Final = 2.0  # Well below the 8 s of the deadline; the machine of a test is slow at times.
EVENTS: Final = 20


async def test_full_disk_is_told_at_once_with_the_reason_and_what_was_in_doubt_is_counted_once(tmp_path: Path) -> None:
    disk = tmp_path / "small"
    with small_disk(disk, mib=DISK_MIB):
        async with (
            Cluster(tmp_path, shards=1, slots=8, spread=2, data={"s1": disk / "data"}) as cluster,
            aiohttp.ClientSession() as session,
        ):

            async def post(number: int) -> tuple[int, str, float]:
                began = time.monotonic()
                query = f"timestamp={HOUR_MS}&user=u{number}&click"
                key = {"Idempotency-Key": str(number)}
                async with session.post(f"{cluster.url}/analytics?{query}", headers=key) as answer:
                    return answer.status, await answer.text(), time.monotonic() - began

            async def is_full(full: bool) -> bool:
                (s1,) = (await cluster.status())["shards"]
                return bool(s1["takes_no_events"] is full)

            assert (await post(-1))[0] == 204
            fill_up_to(disk, FULL)
            await until(lambda: is_full(True), within_s=20)
            for status, text, took_s in [await post(number) for number in range(EVENTS)]:
                assert (status, took_s < AT_ONCE_S) == (503, True), (status, text, took_s)
                assert "the disk of shard s1 is full" in json.loads(text)["detail"]
            await grpc_says_so(cluster.address("s1"))

            free(disk)
            await until(lambda: is_full(False), within_s=20)
            began = time.monotonic()
            for number in range(EVENTS):
                while (await post(number))[0] != 204:
                    assert time.monotonic() - began < 5 * AT_ONCE_S
                    await asyncio.sleep(0.1)
            async with session.get(f"{cluster.url}/analytics?timestamp={HOUR_MS}") as answer:
                assert (await answer.text()).splitlines()[:2] == [
                    f"unique_users,{EVENTS + 1}",
                    f"clicks,{EVENTS + 1}",
                ]


async def grpc_says_so(address: str) -> None:
    """Send two calls: of the first one's event nobody knows; the second one's is refused, and a retry is safe."""
    async with grpc.aio.insecure_channel(address) as channel:
        analytics: analytics_pb2_grpc.AnalyticsAsyncStub = analytics_pb2_grpc.AnalyticsStub(channel)
        event = analytics_pb2.Event(timestamp_ms=HOUR_MS, user="u0", kind=analytics_pb2.KIND_CLICK, idempotency_key="0")
        for may_be_counted in (True, False):
            began = time.monotonic()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await analytics.Record(analytics_pb2.RecordRequest(events=[event]))
            assert time.monotonic() - began < AT_ONCE_S
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "the disk of shard s1 is full" in (refused.value.details() or "")
            told = [key for key, _ in refused.value.trailing_metadata() or ()]
            assert ("grpc-status-details-bin" not in told) is may_be_counted
