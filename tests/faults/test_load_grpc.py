"""Clients of the public gRPC service that send too much, send slowly, or take nothing: what they cost, and whom.

Each kind by itself against one shard, while an honest client counts and reads over another connection. The short forms
are in ``tests/integration/test_grpc_front.py``.
"""

import asyncio
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import pytest
from grpc_status import rpc_status

from protos.tally.v1 import analytics_pb2, analytics_pb2_grpc
from shard.rpc.admission import CALLS_MAX, MESSAGE_BYTES_MAX
from tally.hashing import MS_PER_HOUR
from tests.faults.resources import sample
from tests.support.cluster import Cluster
from tests.support.events import HOUR
from tests.support.raw_grpc import RawClient, message
from tests.support.waiting import running

pytestmark = pytest.mark.timeout(300)

RECORD: Final = "/tally.v1.Analytics/Record"
GET_HOUR: Final = "/tally.v1.Analytics/GetHour"
SHARD: Final = "s1"
TIMEOUT_S: Final = 20.0
HONEST_EVERY_S: Final = 0.05
HONEST_MAX_S: Final = 4.0
MEMORY_MAX_MIB: Final = 300

Hostile = Callable[[str], Awaitable[None]]
"""Does its worst to the service at an address, and ends."""


async def large_calls(address: str) -> None:
    """20 calls of 15 MB, and 200 of the largest message that is taken."""
    for size, calls in ((15_000_000, 20), (MESSAGE_BYTES_MAX - 100, 200)):
        async with grpc.aio.insecure_channel(address) as channel:
            call: Any = channel.unary_unary(RECORD)
            data = b"\x7a" + _length(size) + bytes(size)  # A field that is not known.
            ends = await asyncio.gather(*(call(data, timeout=TIMEOUT_S) for _ in range(calls)), return_exceptions=True)
        assert all(isinstance(end, grpc.aio.AioRpcError) for end in ends)


def _length(size: int) -> bytes:
    encoded = bytearray()
    while size > 0x7F:
        encoded.append(0x80 | (size & 0x7F))
        size >>= 7
    return bytes([*encoded, size])


async def many_calls(address: str) -> None:
    """3000 calls at once, five times: each is served, or told to come again."""
    async with _channels(address, 30) as channels:
        for _ in range(5):
            ends = Counter(await asyncio.gather(*(_end_of(channels[number % 30]) for number in range(3000))))
            assert ends.keys() <= {"OK", "RESOURCE_EXHAUSTED RetryInfo", "UNAVAILABLE RetryInfo"}
            assert ends["OK"] >= CALLS_MAX // 2


async def idle_connections(address: str) -> None:
    """10,000 connections on which nothing is called."""
    async with _raw_clients(address, 10_000):
        await asyncio.sleep(5.0)


async def idle_streams(address: str) -> None:
    """10,000 calls whose messages never come."""
    async with _raw_clients(address, 100) as clients:
        for turn in range(100):
            for client in clients:
                client.begin(RECORD)
            await asyncio.sleep(0.01 if turn % 10 else 0.1)
        await asyncio.sleep(5.0)


async def half_sent(address: str) -> None:
    """1000 calls with a large part of their message."""
    part = message(bytes(12_000), length=MESSAGE_BYTES_MAX)
    async with _raw_clients(address, 100) as clients:
        for _ in range(10):
            for client in clients:
                client.begin(RECORD, part)
            await asyncio.sleep(0.1)
        await asyncio.sleep(5.0)


async def never_reading(address: str) -> None:
    """10,000 calls whose answers are not taken."""
    async with _raw_clients(address, 10, window=0) as clients:
        for _ in range(1000):
            for client in clients:
                client.begin(GET_HOUR, message(b"\x08\x01"), ends=True)
            await asyncio.sleep(0)
        await asyncio.sleep(5.0)


@asynccontextmanager
async def _raw_clients(address: str, count: int, *, window: int | None = None) -> AsyncIterator[list[RawClient]]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:

        def connect() -> list[RawClient]:
            return [stack.enter_context(RawClient(address, window=window)) for _ in range(count)]

        yield await asyncio.to_thread(connect)  # The honest client lives in this process, too.


@asynccontextmanager
async def _channels(address: str, count: int) -> AsyncIterator[list[grpc.aio.Channel]]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(count)]
    try:
        yield channels
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))


async def _end_of(channel: grpc.aio.Channel) -> str:
    event = analytics_pb2.Event(timestamp_ms=HOUR * MS_PER_HOUR, user="crowd", kind=analytics_pb2.KIND_CLICK)
    try:
        await analytics_pb2_grpc.AnalyticsStub(channel).Record(
            analytics_pb2.RecordRequest(events=[event]), timeout=TIMEOUT_S
        )
    except grpc.aio.AioRpcError as error:
        status = rpc_status.from_call(error)
        details = [] if status is None else [one.TypeName().rpartition(".")[2] for one in status.details]
        return f"{error.code().name} {' '.join(details)}"
    return "OK"


class Honest:
    """A client that counts one event after the other, as a service of the house does: again, if it is told to."""

    def __init__(self) -> None:
        self.counted = 0
        self.slowest_s = 0.0

    async def count(self, address: str) -> None:
        async with _channels(address, 1) as (channel,):
            while True:
                began = time.monotonic()
                while (end := await _end_of(channel)) != "OK":
                    assert end in {"RESOURCE_EXHAUSTED RetryInfo", "UNAVAILABLE RetryInfo"}
                    await asyncio.sleep(HONEST_EVERY_S)
                self.counted += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                await asyncio.sleep(HONEST_EVERY_S)


@pytest.mark.parametrize(
    "hostile",
    [large_calls, many_calls, idle_connections, idle_streams, half_sent, never_reading],
    ids=lambda hostile: hostile.__name__,
)
@pytest.mark.full
async def test_hostile_grpc_clients_keep_nobody_from_counting_and_cost_a_bounded_memory(
    tmp_path: Path, hostile: Hostile
) -> None:
    async with Cluster(tmp_path) as cluster:
        honest, address = Honest(), cluster.address(SHARD)
        async with running(honest.count(address)) as (counting,):
            await asyncio.sleep(2.0)
            before = sample(cluster.pid(SHARD), 0.0).resident_mib
            highest = before

            async def watch() -> None:
                nonlocal highest
                while True:
                    highest = max(highest, sample(cluster.pid(SHARD), 0.0).resident_mib)
                    await asyncio.sleep(0.02)

            async with running(watch()):
                counted = honest.counted
                await hostile(address)
                assert honest.counted > counted
                assert not counting.done(), counting
        print(f"{hostile.__name__}: {before:.0f} to {highest:.0f} MiB, slowest {honest.slowest_s:.1f} s")  # noqa: T201
        assert cluster.ended() == []
        assert highest < before + MEMORY_MAX_MIB
        assert honest.slowest_s < HONEST_MAX_S
