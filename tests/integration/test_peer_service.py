"""The internal service, over real gRPC: whoever lacks the secret reaches none of its methods, those to come too."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from protos.tally.internal.v1 import node_pb2, node_pb2_grpc
from shard.rpc.peer_guard import STRANGER, PeerGuard
from shard.rpc.servers import peer_server
from tally.client.channel import CLIENT_OPTIONS, peer_metadata
from tests.support.cluster_values import SECRET, UUID, state
from tests.support.peers import offering

SHARD: Final = "s1"
TIMEOUT_S: Final = 10.0
STATE: Final = state()
METHODS: Final = node_pb2.DESCRIPTOR.services_by_name["Node"].methods
BIG: Final = b"\x0a" + b"\xff" * 1_000_000  # No message at all.


class NotedNode(node_pb2_grpc.NodeServicer):
    """A service that notes which of its methods were reached."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name not in {method.name for method in METHODS}:
            return super().__getattribute__(name)
        method = node_pb2.DESCRIPTOR.services_by_name["Node"].methods_by_name[name]
        answer = GetMessageClass(method.output_type)()

        async def stream(_requests: object, _context: object) -> AsyncIterator[Message]:
            self.reached.append(name)
            yield answer

        async def unary(_request: object, _context: object) -> Message:
            self.reached.append(name)
            return answer

        return stream if method.server_streaming else unary


class Served:
    """A server, its service, and a channel to it."""

    def __init__(self) -> None:
        self.node = NotedNode()  # type: ignore[abstract] # It has all methods.
        self._server = peer_server(self.node, PeerGuard(lambda: STATE, SHARD))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CLIENT_OPTIONS)

    async def start(self) -> None:
        await self._server.start()

    async def close(self) -> None:
        await self.channel.close()
        await self._server.stop(None)

    async def call(self, method: str, metadata: Any, request: bytes = b"") -> grpc.aio.AioRpcError | None:
        """Call a method as a stranger may, with any bytes; return how it was refused, None if it was not."""
        # On the wire it is the same, whatever the method is declared to be: one message, and the end of the requests.
        begin: Any = self.channel.unary_stream(f"/tally.internal.v1.Node/{method}")
        call: Any = begin(request, metadata=metadata, timeout=TIMEOUT_S)
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for _ in call:
                pass
        code = await call.code()
        return (
            None
            if code is grpc.StatusCode.OK
            else grpc.aio.AioRpcError(code, grpc.aio.Metadata(), await call.trailing_metadata(), await call.details())
        )


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    """A server that serves."""
    made = Served()
    await made.start()
    yield made
    await made.close()


TEXT: Final = SECRET.reveal()
STRANGERS: Final = {
    "none": offering(STATE, SHARD),
    "empty": offering(STATE, SHARD, ""),
    "wrong": offering(STATE, SHARD, "0" * 64),
    "too short": offering(STATE, SHARD, TEXT[:-1]),
    "too long": offering(STATE, SHARD, TEXT + "0"),
    "twice as long": offering(STATE, SHARD, TEXT * 2),
    "doubled": offering(STATE, SHARD, TEXT, TEXT),
    "with another one": offering(STATE, SHARD, TEXT, "0" * 64),
    "in capitals": offering(STATE, SHARD, TEXT.upper()),
    "in another place": grpc.aio.Metadata(*offering(STATE, SHARD), ("authorization", TEXT)),
}


@pytest.mark.parametrize("method", [method.name for method in METHODS])
async def test_every_method_is_reached_with_the_secret(served: Served, method: str) -> None:
    """Else the next test shows nothing."""
    assert await served.call(method, peer_metadata(STATE, SHARD)) is None
    assert served.node.reached == [method]


@pytest.mark.parametrize("who", STRANGERS)
async def test_stranger_reaches_no_method_and_learns_nothing(served: Served, who: str) -> None:
    for method in [*(method.name for method in METHODS), "NoSuchMethod"]:
        for request in (b"", BIG):
            refused = await served.call(method, STRANGERS[who], request)
            assert refused is not None
            assert (refused.code(), refused.details()) == STRANGER
            told = f"{refused.details()}{refused.trailing_metadata()}"
            assert not any(word in told for word in (UUID, SHARD, TEXT))
    assert served.node.reached == []


async def test_huge_secret_is_refused_before_anybody_compares_it(served: Served) -> None:
    for method in METHODS:
        refused = await served.call(method.name, offering(STATE, SHARD, "0" * 1_000_000))
        assert refused is not None
        assert refused.code() in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, STRANGER.code}
    assert served.node.reached == []


async def test_unary_call_of_a_stranger_is_refused_in_order(served: Served) -> None:
    stub: node_pb2_grpc.NodeAsyncStub = node_pb2_grpc.NodeStub(served.channel)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.Status(node_pb2.StatusRequest(), metadata=offering(STATE, SHARD), timeout=TIMEOUT_S)
    assert (raised.value.code(), raised.value.details()) == STRANGER


async def test_who_has_the_secret_and_means_another_shard_is_told_so(served: Served) -> None:
    for method in METHODS:
        refused = await served.call(method.name, peer_metadata(STATE, "s2"))
        assert refused is not None
        assert refused.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert served.node.reached == []
