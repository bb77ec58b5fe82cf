"""What stands before the public gRPC service: too many, too slow and unreadable calls; without a cluster."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from protos.tally.v1 import analytics_pb2, analytics_pb2_grpc
from shard.rpc import front
from shard.rpc.admission import CALLS_MAX, MESSAGE_BYTES_MAX, READING_MAX, STREAMS_MAX
from shard.rpc.servers import listen, public_server
from tally.address import Address
from tests.support.etcd import free_ports
from tests.support.raw_grpc import RawClient, message
from tests.support.waiting import until

RECORD: Final = "/tally.v1.Analytics/Record"
TIMEOUT_S: Final = 20.0


class Waiting(analytics_pb2_grpc.AnalyticsServicer):
    """Answers when the test says so; at once at first."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.served = 0

    async def Record(self, _request: analytics_pb2.RecordRequest, _context: Any) -> analytics_pb2.RecordResponse:
        self.served += 1
        await self.gate.wait()
        return analytics_pb2.RecordResponse()

    async def GetHour(self, request: analytics_pb2.GetHourRequest, _context: Any) -> analytics_pb2.GetHourResponse:
        return analytics_pb2.GetHourResponse(clicks=request.timestamp_ms)


class Served:
    """A public server."""

    def __init__(self) -> None:
        self.analytics = Waiting()
        self.address = f"127.0.0.1:{free_ports(1)[0]}"

    async def record(self, channel: grpc.aio.Channel) -> str:
        """Call once; return the status, and the kinds of its details."""
        try:
            await analytics_pb2_grpc.AnalyticsStub(channel).Record(analytics_pb2.RecordRequest(), timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name} {' '.join(details(error))}"
        return "OK"

    async def answers_others(self) -> None:
        """Somebody who does nothing unusual is served."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            ask = analytics_pb2.GetHourRequest(timestamp_ms=7)
            assert (await analytics_pb2_grpc.AnalyticsStub(channel).GetHour(ask, timeout=TIMEOUT_S)).clicks == 7


def details(error: grpc.aio.AioRpcError) -> list[str]:
    status = rpc_status.from_call(error)
    return [] if status is None else [packed.TypeName().rpartition(".")[2] for packed in status.details]


def bare(channel: grpc.aio.Channel) -> Any:
    """Return what calls Record with any bytes."""
    return channel.unary_unary(RECORD)


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    found = Served()
    health_servicer = health.aio.HealthServicer()
    await health_servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    server = public_server(found.analytics, health_servicer)
    listen(server, Address.parse("--listen", found.address), "--listen")
    await server.start()
    yield found
    found.analytics.gate.set()
    await server.stop(None)


@asynccontextmanager
async def channels_to(served: Served, count: int) -> AsyncIterator[list[grpc.aio.Channel]]:
    """Connections of their own: else gRPC would share one."""
    async with AsyncExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        yield [
            await stack.enter_async_context(grpc.aio.insecure_channel(served.address, options=options))
            for _ in range(count)
        ]


@pytest.mark.parametrize("connections", [1, 30])
async def test_of_3000_calls_at_once_each_is_served_or_told_to_come_again(served: Served, connections: int) -> None:
    served.analytics.gate.clear()
    async with channels_to(served, connections) as channels:
        calls = [asyncio.create_task(served.record(channels[number % connections])) for number in range(3000)]
        await until(lambda: sum(call.done() for call in calls) >= 3000 - CALLS_MAX, within_s=TIMEOUT_S)
        async with grpc.aio.insecure_channel(served.address) as channel:
            healthy = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        served.analytics.gate.set()
        ends = Counter(await asyncio.gather(*calls))
    assert healthy.status == health_pb2.HealthCheckResponse.SERVING
    assert ends == {"OK": CALLS_MAX, "RESOURCE_EXHAUSTED RetryInfo": 3000 - CALLS_MAX}
    assert served.analytics.served == CALLS_MAX


@pytest.mark.parametrize("data", [b"", message(b"x" * 1000, length=MESSAGE_BYTES_MAX)], ids=["nothing", "a part"])
async def test_calls_whose_messages_do_not_come_keep_nobody_from_being_served(served: Served, data: bytes) -> None:
    with RawClient(served.address) as hostile, RawClient(served.address) as another:
        for client in (hostile, another):
            for _ in range(10 * READING_MAX):
                client.begin(RECORD, data)
        for _ in range(20):
            await served.answers_others()
        assert served.analytics.served == 0
        another.begin(RECORD, message(b""), ends=True)  # This one is whole: what came before were calls, too.
        await until(lambda: served.analytics.served == 1)


async def test_message_that_does_not_come_in_time_is_not_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "READ_MAX_S", 0.2)
    async with grpc.aio.insecure_channel(served.address) as channel:
        call: Any = channel.stream_unary(RECORD)()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert details(raised.value) == ["RetryInfo"]


async def test_calls_whose_answers_are_not_taken_keep_nobody_from_being_served(served: Served) -> None:
    with RawClient(served.address, window=0) as hostile:
        for _ in range(2 * CALLS_MAX):
            hostile.begin("/tally.v1.Analytics/GetHour", message(b"\x08\x01"), ends=True)
        for _ in range(20):
            await served.answers_others()


async def test_message_that_is_too_large_is_refused_and_not_to_be_repeated(served: Served) -> None:
    async with grpc.aio.insecure_channel(served.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await bare(channel)(b"\x12" * (MESSAGE_BYTES_MAX + 1), timeout=TIMEOUT_S)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details(raised.value) == []
    await served.answers_others()


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"\xff", ""),
        (b"\x0a\x05\x08\x01\x12\x01\xff", "events[0].user"),
        (b"\x0a\x02\x08\x01\x0a\x03\x22\x01\xc0", "events[1].idempotency_key"),
        (b"\x0a\x40", "events[0]"),
    ],
)
async def test_what_can_not_be_read_is_invalid_and_the_field_is_named(served: Served, data: bytes, field: str) -> None:
    async with grpc.aio.insecure_channel(served.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await bare(channel)(data, timeout=TIMEOUT_S)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(raised.value)
    assert status is not None
    found = error_details_pb2.BadRequest.FromString(status.details[0].value)
    assert [violation.field for violation in found.field_violations] == [field]
    assert served.analytics.served == 0


async def test_call_without_a_message_is_invalid(served: Served) -> None:
    async with grpc.aio.insecure_channel(served.address) as channel:
        call: Any = channel.stream_unary(RECORD)(timeout=TIMEOUT_S)
        await call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_streams_beyond_a_bound_are_told_to_come_again_and_calls_are_served(served: Served) -> None:
    async with channels_to(served, 1) as (channel,):
        watches = [
            health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()) for _ in range(STREAMS_MAX)
        ]
        await asyncio.gather(*(watch.read() for watch in watches))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()).read()
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(raised.value) == ["RetryInfo"]
        await served.answers_others()
