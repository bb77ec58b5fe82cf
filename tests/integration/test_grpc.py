"""The public gRPC service, on the shards of a real cluster: every shard answers for every hour."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from protos.tally.internal.v1 import node_pb2, node_pb2_grpc
from protos.tally.v1 import analytics_pb2, analytics_pb2_grpc
from tally.client.channel import peer_metadata
from tally.client.counts import HourCounts
from tally.event import TIMESTAMP_MS_MAX
from tally.hashing import MS_PER_HOUR
from tests.support.cluster import Cluster
from tests.support.events import HOUR
from tests.support.peers import channel_to_peer, state_of

TIMEOUT_S: Final = 15.0
CLICK: Final = analytics_pb2.KIND_CLICK
IMPRESSION: Final = analytics_pb2.KIND_IMPRESSION

_hours = itertools.count(HOUR)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """One cluster for all tests in here."""
    async with Cluster(tmp_path_factory.mktemp("grpc")) as running:
        yield running


@pytest.fixture
def hour() -> int:
    """An hour that no other test uses."""
    return next(_hours)


@asynccontextmanager
async def channel_to(cluster: Cluster, shard: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(cluster.address(shard)) as channel:
        yield channel


def event(
    hour: int, user: str = "ann", kind: analytics_pb2.Kind.ValueType = CLICK, *, ms: int = 0
) -> analytics_pb2.Event:
    return analytics_pb2.Event(timestamp_ms=hour * MS_PER_HOUR + ms, user=user, kind=kind)


async def record(cluster: Cluster, shard: str, events: Sequence[analytics_pb2.Event]) -> None:
    async with channel_to(cluster, shard) as channel:
        stub = analytics_pb2_grpc.AnalyticsStub(channel)
        await stub.Record(analytics_pb2.RecordRequest(events=events), timeout=TIMEOUT_S)


async def get_hour(
    cluster: Cluster, shard: str, hour: int, *, timeout_s: float = TIMEOUT_S
) -> analytics_pb2.GetHourResponse:
    async with channel_to(cluster, shard) as channel:
        stub = analytics_pb2_grpc.AnalyticsStub(channel)
        request = analytics_pb2.GetHourRequest(timestamp_ms=(hour + 1) * MS_PER_HOUR - 1)
        return await stub.GetHour(request, timeout=timeout_s)


async def counts(cluster: Cluster, shard: str, hour: int) -> HourCounts:
    answer = await get_hour(cluster, shard, hour)
    assert answer.hour_start_ms == hour * MS_PER_HOUR
    return HourCounts(answer.unique_users, answer.clicks, answer.impressions)


def details(error: grpc.aio.AioRpcError) -> list[Any]:
    """Return the details of a status, which must say the same as the call."""
    status = rpc_status.from_call(error)
    assert status is not None
    assert (status.code, status.message) == (error.code().value[0], error.details())
    found = []
    for packed in status.details:
        kind = {one.DESCRIPTOR.full_name: one for one in (error_details_pb2.BadRequest, error_details_pb2.RetryInfo)}
        found.append(kind[packed.TypeName()].FromString(packed.value))
    return found


async def test_every_shard_takes_and_tells_what_the_others_keep(cluster: Cluster, hour: int) -> None:
    users = [f"u{number}" for number in range(60)]  # In 60 users of 16 buckets each shard has a share.
    for shard in cluster.shards:
        await record(cluster, shard, [event(hour, user) for user in users])
    for shard in cluster.shards:
        assert await counts(cluster, shard, hour) == HourCounts(60, 180, 0)


async def test_one_call_may_hold_events_of_many_hours(cluster: Cluster) -> None:
    hours = [next(_hours) for _ in range(50)]
    events = [
        one for hour in hours for one in (event(hour), event(hour, ms=MS_PER_HOUR - 1), event(hour, "bob", IMPRESSION))
    ]
    await record(cluster, "s1", events)
    assert [await counts(cluster, "s2", hour) for hour in hours] == [HourCounts(2, 2, 1)] * 50


async def test_equal_events_are_separate_events(cluster: Cluster, hour: int) -> None:
    await record(cluster, "s1", [event(hour)] * 1000)
    assert await counts(cluster, "s3", hour) == HourCounts(1, 1000, 0)


async def test_hour_without_events_is_zeros(cluster: Cluster, hour: int) -> None:
    assert await counts(cluster, "s1", hour) == HourCounts(0, 0, 0)


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (analytics_pb2.Event(timestamp_ms=TIMESTAMP_MS_MAX + 1, user="ann", kind=CLICK), "timestamp_ms"),
        (analytics_pb2.Event(timestamp_ms=0, user="", kind=CLICK), "user"),
        (analytics_pb2.Event(timestamp_ms=0, user="x" * 257, kind=CLICK), "user"),
        (analytics_pb2.Event(timestamp_ms=0, user="a\x7f", kind=CLICK), "user"),
        (analytics_pb2.Event(timestamp_ms=0, user="ann"), "kind"),
    ],
)
async def test_one_bad_event_is_named_and_none_of_its_call_is_counted(
    cluster: Cluster, hour: int, bad: analytics_pb2.Event, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await record(cluster, "s2", [event(hour), event(hour, "bob"), bad, event(hour, "eve")])
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    (request,) = details(raised.value)
    (violation,) = request.field_violations
    assert violation.field == f"events[2].{field}"
    assert violation.description
    assert await counts(cluster, "s1", hour) == HourCounts(0, 0, 0)


@pytest.mark.parametrize("count", [0, 1001])
async def test_call_with_too_few_or_too_many_events_is_refused(cluster: Cluster, hour: int, count: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await record(cluster, "s1", [event(hour)] * count)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    (request,) = details(raised.value)
    assert [violation.field for violation in request.field_violations] == ["events"]
    assert await counts(cluster, "s1", hour) == HourCounts(0, 0, 0)


async def test_hour_after_the_year_9999_is_refused(cluster: Cluster) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await get_hour(cluster, "s1", TIMESTAMP_MS_MAX // MS_PER_HOUR + 1)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    (request,) = details(raised.value)
    assert [violation.field for violation in request.field_violations] == ["timestamp_ms"]


async def test_frozen_shard_is_waited_for_until_the_deadline_and_never_left_out(cluster: Cluster, hour: int) -> None:
    users = [f"u{number}" for number in range(60)]
    await record(cluster, "s1", [event(hour, user) for user in users])
    cluster.stop("s3")
    try:
        began = time.monotonic()
        short, long = await asyncio.gather(
            timed_failure(cluster, hour, timeout_s=0.5), timed_failure(cluster, hour, timeout_s=TIMEOUT_S)
        )
    finally:
        cluster.cont("s3")
    # The caller's clock and the shard's watch the same deadline; either may be the first to say so.
    assert short[0].code() in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
    assert short[1] - began < 2.0
    assert long[0].code() is grpc.StatusCode.UNAVAILABLE
    assert 7.5 < long[1] - began < 10.0
    (retry,) = details(long[0])
    assert retry.retry_delay.seconds == 1
    assert await counts(cluster, "s1", hour) == HourCounts(60, 60, 0)


async def timed_failure(cluster: Cluster, hour: int, *, timeout_s: float) -> tuple[grpc.aio.AioRpcError, float]:
    """Ask for an hour that can't be had; return the error and when it came."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await get_hour(cluster, "s1", hour, timeout_s=timeout_s)
    return raised.value, time.monotonic()


async def test_every_shard_says_that_it_is_healthy(cluster: Cluster) -> None:
    for shard in cluster.shards:
        async with channel_to(cluster, shard) as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_public_service_and_its_file(cluster: Cluster) -> None:
    async with channel_to(cluster, "s1") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        ask = reflection_pb2.ServerReflectionRequest
        asked = [ask(list_services=""), ask(file_containing_symbol="tally.v1.Analytics")]
        listed, described = [answer async for answer in stub.ServerReflectionInfo(iter(asked), timeout=TIMEOUT_S)]
    names = {service.name for service in listed.list_services_response.service}
    assert names == {"tally.v1.Analytics", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert described.file_descriptor_response.file_descriptor_proto


@pytest.mark.parametrize(
    "asked",
    [
        {"file_containing_symbol": "tally.internal.v1.Node"},
        {"file_containing_symbol": "tally.internal.v1.SubBatch"},
        {"file_by_filename": node_pb2.DESCRIPTOR.name},
    ],
)
async def test_reflection_tells_nothing_of_the_internal_service(cluster: Cluster, asked: dict[str, str]) -> None:
    async with channel_to(cluster, "s1") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        ask = iter([reflection_pb2.ServerReflectionRequest(**asked)])
        (told,) = [answer async for answer in stub.ServerReflectionInfo(ask, timeout=TIMEOUT_S)]
    assert told.HasField("error_response")


async def test_each_service_is_on_its_own_address_only(cluster: Cluster) -> None:
    to_s1 = peer_metadata(await state_of(cluster), "s1")
    how: dict[str, Any] = {"metadata": to_s1, "timeout": TIMEOUT_S}
    async with channel_to(cluster, "s1") as public, channel_to_peer(cluster, "s1") as internal:
        calls = [
            node_pb2_grpc.NodeStub(public).Status(node_pb2.StatusRequest(), **how),
            analytics_pb2_grpc.AnalyticsStub(internal).GetHour(analytics_pb2.GetHourRequest(), **how),
            health_pb2_grpc.HealthStub(internal).Check(health_pb2.HealthCheckRequest(), **how),
        ]
        ends = await asyncio.gather(*calls, return_exceptions=True)
    assert {end.code() for end in ends if isinstance(end, grpc.aio.AioRpcError)} == {grpc.StatusCode.UNIMPLEMENTED}


@pytest.mark.parametrize("wrong", ["cluster", "shard"])
async def test_shard_refuses_what_is_meant_for_who_had_its_address_before(cluster: Cluster, wrong: str) -> None:
    """Else a gateway would have its events counted by another cluster, and call them acknowledged."""
    state = await state_of(cluster)
    async with channel_to_peer(cluster, "s1") as channel:
        call = node_pb2_grpc.NodeStub(channel).Exchange(
            metadata={
                "cluster": peer_metadata(replace(state, config=replace(state.config, uuid="f" * 32)), "s1"),
                "shard": peer_metadata(state, "s2"),
            }[wrong],
            timeout=TIMEOUT_S,
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
