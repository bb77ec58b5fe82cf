"""The calls between controller and shards, over real gRPC."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest

from protos.tally.internal.v1 import node_pb2, node_pb2_grpc
from tally.client.channel import SERVER_OPTIONS, peer_metadata
from tally.cluster.controller import node_calls
from tally.cluster.controller.node_calls import NodeCalls, execute_wishes
from tally.cluster.controller.node_words import wish_of
from tally.cluster.members import Member
from tally.cluster.op_name import OpName
from tally.cluster.planning.health import CopyHealth, ShardHealth
from tally.cluster.rows import Change, Refusal, Request
from tally.errors import NotController, Unavailable, Unreachable
from tests.support.cluster_values import state

NAME = "0123456789abcdef" * 2
REQUEST = Request(Change.REMOVE, 3, 7, "s1", NAME, "p0", OpName(4, 8, b"d" * 16))


class FakeNode(node_pb2_grpc.NodeServicer):
    """A shard s0 that notes what it is told."""

    def __init__(self) -> None:
        self.switches: list[node_pb2.SwitchSlotsRequest] = []
        self.changes: list[node_pb2.RowChangeWish] = []
        self.hints = 0
        self.controller = True
        self.slow_s = 0.0

    async def _check(self, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        meant = dict(context.invocation_metadata() or ())
        if any(meant.get(name) != value for name, value in peer_metadata(state(), "s0")):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "another")

    async def Status(
        self, _: node_pb2.StatusRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> node_pb2.StatusResponse:
        await self._check(context)
        await asyncio.sleep(self.slow_s)
        copy = node_pb2.CopyStatus(slot=1, incarnation=bytes.fromhex(NAME), epoch=7, serving=True)
        return node_pb2.StatusResponse(shard="s0", copies=[copy])

    async def SwitchSlots(
        self, request: node_pb2.SwitchSlotsRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> node_pb2.SwitchSlotsResponse:
        await self._check(context)
        await asyncio.sleep(self.slow_s)
        self.switches.append(request)
        return node_pb2.SwitchSlotsResponse()

    async def HintMap(
        self, _: node_pb2.HintMapRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> node_pb2.HintMapResponse:
        self.hints += 1
        return node_pb2.HintMapResponse()

    async def ChangeRows(
        self, request: node_pb2.ChangeRowsRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> node_pb2.ChangeRowsResponse:
        if not self.controller:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not the controller")
        self.changes.extend(request.changes)
        return node_pb2.ChangeRowsResponse(refusals=["", "no"])


def fake_node() -> FakeNode:
    return FakeNode()  # type: ignore[abstract] # It has what is called here.


@asynccontextmanager
async def served(node: FakeNode) -> AsyncIterator[str]:
    server = grpc.aio.server(options=SERVER_OPTIONS)
    node_pb2_grpc.add_NodeServicer_to_server(node, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


@pytest.fixture
async def calls() -> AsyncIterator[NodeCalls]:
    made = NodeCalls(state)
    yield made
    await made.close()


async def test_health_is_what_the_meant_shard_says(calls: NodeCalls) -> None:
    async with served(fake_node()) as address:
        expected = ShardHealth({1: CopyHealth(NAME, complete=True, epoch=7, serving=True)})
        assert await calls.ask_health("s0", address) == expected
        assert await calls.ask_health("s1", address) is None  # Another shard has that address now.
    assert await calls.ask_health("s0", address) is None


async def test_shard_that_moved_is_reached_where_it_is_now(calls: NodeCalls) -> None:
    async with served(fake_node()) as first, served(fake_node()) as second:
        assert await calls.ask_health("s0", first) is not None
        link = calls._links["s0"]
        assert await calls.ask_health("s0", second) is not None
        assert list(calls._links) == ["s0"]
        assert calls._links["s0"] is not link


async def test_call_that_is_under_way_when_the_shard_moves_ends_in_order(calls: NodeCalls) -> None:
    node = fake_node()
    node.slow_s = 0.2
    async with served(node) as first, served(fake_node()) as second:
        before = asyncio.create_task(calls.ask_health("s0", first))
        await asyncio.sleep(0.1)
        assert await calls.ask_health("s0", second) is not None
        assert await before is not None


async def test_call_whose_channel_is_closed_under_it_has_no_answer(
    calls: NodeCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen process finds its calls ended by the channel, with CancelledError: no task may end of that."""
    monkeypatch.setattr(node_calls, "CHANGE_S", 0.2)
    node = fake_node()
    node.slow_s = 5.0
    async with served(node) as address:
        asking = asyncio.create_task(calls.ask_health("s0", address))
        switching = asyncio.create_task(calls.give_switches(address, "s0", {1: "s1"}))
        cancelled = asyncio.create_task(calls.ask_health("s0", address))
        await asyncio.sleep(0.1)
        cancelled.cancel()
        calls._drop("s0")
        assert await asyncio.wait_for(asking, 5) is None
        with pytest.raises(Unreachable):
            await switching
        with pytest.raises(asyncio.CancelledError):
            await cancelled


async def test_switches_and_hints_arrive(calls: NodeCalls) -> None:
    node = fake_node()
    async with served(node) as address:
        await calls.give_switches(address, "s0", {1: "s1", 5: "s2"})
        await calls.hint_map(state(of={"s0": Member("", address, NAME), "s1": Member("", "127.0.0.1:1", NAME)}))
        assert (list(node.switches[0].slots), list(node.switches[0].shards)) == ([1, 5], ["s1", "s2"])
        assert node.hints == 1
        await calls.hint_map(state(of={}))
        assert not calls._links  # Who left the cluster needs no channel any more.
    with pytest.raises(Unavailable):
        await calls.give_switches(address, "s0", {1: "s1"})


async def test_requests_reach_the_controller_and_its_answers_come_back(calls: NodeCalls) -> None:
    node = fake_node()
    async with served(node) as address:
        assert await calls.change_rows(address, "s0", [wish_of(REQUEST)] * 2) == ["", "no"]
        assert node.changes == [wish_of(REQUEST)] * 2
        with pytest.raises(Unavailable, match="2 answers to 1"):
            await calls.change_rows(address, "s0", [wish_of(REQUEST)])
        node.controller = False
        with pytest.raises(NotController):
            await calls.change_rows(address, "s0", [wish_of(REQUEST)])
    with pytest.raises(Unavailable):
        await calls.change_rows(address, "s0", [wish_of(REQUEST)])


async def test_wishes_that_can_be_read_are_executed_and_the_others_refused() -> None:
    asked: list[Request] = []

    async def execute(requests: object) -> list[Refusal | None]:
        assert isinstance(requests, list)
        asked.extend(requests)
        return [None, Refusal(REQUEST, None, "too late")]

    wishes = [wish_of(REQUEST), node_pb2.RowChangeWish(), wish_of(REQUEST)]
    assert await execute_wishes(execute, wishes) == ["", "there is no change 0", "too late"]
    assert asked == [REQUEST, REQUEST]
