"""Every message between nodes, with each field at its extremes, against a real shard: nothing of it is stored."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, NamedTuple

import aiohttp
import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.message import Message

from protos.tally.internal.v1 import node_pb2, node_pb2_grpc
from shard.counting.keys import Counts, cell_key, without_generation
from tally.client.channel import open_channel, peer_metadata
from tally.cluster.state import ClusterState
from tests.faults.resources import sample
from tests.support.cluster import Cluster
from tests.support.events import HOUR
from tests.support.extremes import variants
from tests.support.peers import WRONG, offering, state_of
from tests.support.waiting import running

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

METHODS: Final = {method.name: method for method in node_pb2.DESCRIPTOR.services_by_name["Node"].methods}
SLOTS: Final = 8
CALL_S: Final = 2.0
AT_ONCE: Final = 4
GROWTH_MAX_MIB: Final = 200
DIGEST: Final = b"d" * 16


class Attacked(NamedTuple):
    """A cluster, and what its shard s1 said of itself at first."""

    cluster: Cluster
    state: ClusterState
    status: node_pb2.StatusResponse


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def attacked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Attacked]:
    """Every shard has a copy of each slot, so that there is something to harm."""
    directory = tmp_path_factory.mktemp("extremes")
    async with Cluster(directory, slots=SLOTS, spread=4, copies=3) as cluster:
        await count(cluster, 40)
        state = await state_of(cluster)
        yield Attacked(cluster, state, await status_of(cluster, state))


def metadata(state: ClusterState) -> grpc.aio.Metadata:
    return peer_metadata(state, "s1", "s2")


async def status_of(cluster: Cluster, state: ClusterState) -> node_pb2.StatusResponse:
    async with open_channel(cluster.peer_address("s1")) as channel:
        stub: node_pb2_grpc.NodeAsyncStub = node_pb2_grpc.NodeStub(channel)
        return await stub.Status(node_pb2.StatusRequest(), metadata=metadata(state), timeout=10.0)


async def count(cluster: Cluster, users: int) -> None:
    """Count an event of each user: together they are in every slot of the hour."""
    async with aiohttp.ClientSession() as session:
        for number in range(users):
            url = f"{cluster.url}/analytics?timestamp={HOUR * 3_600_000}&user=u{number}&click"
            async with session.post(url) as answer:
                assert answer.status == 204, await answer.text()


def op_body(slot: int) -> bytes:
    cell = without_generation(cell_key(1, HOUR, slot))
    return node_pb2.OpBody(put_keys=[cell], put_values=[Counts(7, 7, 7).encode()]).SerializeToString()


def baselines(attacked: Attacked) -> Mapping[str, Message]:
    """Return for each method a request that is well-formed, and changes nothing."""
    copy = attacked.status.copies[0]
    name = node_pb2.OpName(epoch=copy.head.epoch, opnum=copy.head.opnum + 1, digest=DIGEST)
    # It does not follow the head: its digest is another one.
    previous = node_pb2.OpName(epoch=copy.head.epoch, opnum=copy.head.opnum, digest=DIGEST)
    to_copy: dict[str, Any] = {"slot": copy.slot, "epoch": copy.epoch}
    return {
        "Exchange": node_pb2.ExchangeRequest(
            sub_batches=[
                node_pb2.SubBatch(
                    id=1, writer=DIGEST, seq=9, hours=[HOUR], users=[b"u1"], kinds=b"\1", keys=[b""], **to_copy
                )
            ],
            reads=[node_pb2.HourRead(id=2, hour=HOUR, buckets=[0, 1], epochs=[1, 1])],
        ),
        "Replicate": node_pb2.ReplicateRequest(
            forwards=[
                node_pb2.ForwardCall(
                    call=1,
                    incarnation=copy.incarnation,
                    op=node_pb2.Op(name=name, previous=previous, body=op_body(copy.slot)),
                    **to_copy,
                )
            ],
            heads=[node_pb2.HeadsCall(call=2, **to_copy)],
            confirms=[node_pb2.ConfirmCall(call=3, incarnation=copy.incarnation, **to_copy)],
        ),
        "Clone": node_pb2.CloneRequest(slot=copy.slot, incarnation=DIGEST, head=name),
        "Status": node_pb2.StatusRequest(),
        "HintMap": node_pb2.HintMapRequest(),
        "ChangeRows": node_pb2.ChangeRowsRequest(
            changes=[
                node_pb2.RowChangeWish(
                    change=node_pb2.ROW_CHANGE_REMOVE, shard="s3", incarnation=DIGEST, process="nobody", **to_copy
                )
            ]
        ),
        "SwitchSlots": node_pb2.SwitchSlotsRequest(slots=[copy.slot], shards=["nobody"]),
        "FoundCopy": node_pb2.FoundCopyRequest(slot=copy.slot, incarnation=DIGEST),
    }


async def send(channel: grpc.aio.Channel, method: str, data: bytes, pairs: grpc.aio.Metadata) -> grpc.StatusCode:
    """Send one message to a method, whatever it is declared to be, and take what comes; return how it ended."""
    begin: Any = channel.unary_stream(f"/tally.internal.v1.Node/{method}")
    call: Any = begin(data, metadata=pairs, timeout=CALL_S)
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for _ in call:
            pass
    code: grpc.StatusCode = await call.code()
    return code


async def check_unharmed(attacked: Attacked) -> None:
    """Every slot counts, no epoch rose, and each head is where events brought it."""
    cluster, state, before = attacked
    assert cluster.ended() == []
    await count(cluster, 40)
    now = await status_of(cluster, state)
    assert [(copy.slot, copy.incarnation, copy.epoch) for copy in now.copies] == [
        (copy.slot, copy.incarnation, copy.epoch) for copy in before.copies
    ]
    assert now.slots == before.slots
    found = (await state_of(cluster)).map
    assert found is not None
    assert found.rows == (state.map and state.map.rows)


async def test_there_is_a_baseline_for_every_method() -> None:
    empty = node_pb2.StatusResponse(copies=[node_pb2.CopyStatus()])
    found = baselines(Attacked(None, None, empty))  # type: ignore[arg-type]
    assert {name: type(message) for name, message in found.items()} == {
        name: getattr(node_pb2, method.input_type.name) for name, method in METHODS.items()
    }


@pytest.mark.parametrize("method", sorted(METHODS))
async def test_messages_with_a_field_at_its_extreme_change_nothing_and_others_are_served(
    attacked: Attacked, method: str
) -> None:
    cluster = attacked.cluster
    baseline = baselines(attacked)[method]
    resident = sample(cluster.pid("s1"), 0.0).resident_mib
    ends: dict[str, grpc.StatusCode] = {}

    async def go_on_counting() -> None:
        while True:
            await count(cluster, 5)

    async with open_channel(cluster.peer_address("s1")) as channel, running(go_on_counting()) as (counting,):
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(what: str, message: Message) -> None:
            async with gate:
                ends[what] = await send(channel, method, message.SerializeToString(), metadata(attacked.state))

        await asyncio.gather(*(one(*variant) for variant in variants(baseline)))
        assert not counting.done(), counting
    await check_unharmed(attacked)
    assert sample(cluster.pid("s1"), 0.0).resident_mib < resident + GROWTH_MAX_MIB
    # None: neither a crash within, nor a call that hangs.
    wrong = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED}
    assert {what: end for what, end in ends.items() if end in wrong} == {}


@pytest.mark.parametrize("method", sorted(METHODS))
async def test_without_the_secret_none_of_them_is_read(attacked: Attacked, method: str) -> None:
    stranger = offering(attacked.state, "s1", WRONG, sender="s2")
    async with open_channel(attacked.cluster.peer_address("s1")) as channel:
        ends = {
            await send(channel, method, message.SerializeToString(), stranger)
            for _, message in variants(baselines(attacked)[method])
        }
    assert ends <= {grpc.StatusCode.UNAUTHENTICATED}
    await check_unharmed(attacked)


@pytest.mark.parametrize("method", ["Exchange", "Replicate", "ChangeRows", "SwitchSlots"])
async def test_message_of_millions_of_parts_costs_no_memory(attacked: Attacked, method: str) -> None:
    resident = sample(attacked.cluster.pid("s1"), 0.0).resident_mib
    async with open_channel(attacked.cluster.peer_address("s1")) as channel:
        for tag in (b"\x0a\x00", b"\x12\x00", b"\x1a\x00"):
            await send(channel, method, tag * 7_500_000, metadata(attacked.state))
    assert sample(attacked.cluster.pid("s1"), 0.0).resident_mib < resident + GROWTH_MAX_MIB
    await check_unharmed(attacked)


async def test_peer_that_sends_without_reading_costs_a_bounded_memory(attacked: Attacked) -> None:
    copy = attacked.status.copies[0]
    heads = [node_pb2.HeadsCall(call=number, slot=copy.slot, epoch=copy.epoch) for number in range(1, 10_001)]
    resident = sample(attacked.cluster.pid("s1"), 0.0).resident_mib
    async with open_channel(attacked.cluster.peer_address("s1")) as channel:
        stub: node_pb2_grpc.NodeAsyncStub = node_pb2_grpc.NodeStub(channel)
        stream: Any = stub.Replicate(metadata=metadata(attacked.state))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                for turn in range(100):
                    for call in heads:
                        call.call += 10_000 * (turn > 0)
                    await stream.write(node_pb2.ReplicateRequest(heads=heads))
        await check_unharmed(attacked)
        assert sample(attacked.cluster.pid("s1"), 0.0).resident_mib < resident + GROWTH_MAX_MIB
        stream.cancel()
