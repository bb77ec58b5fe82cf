"""Readiness: why some slot is not served, in words."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import cast

import grpc.aio
import pytest

from protos.tally.internal.v1 import node_pb2, node_pb2_grpc
from tally.client.client import RoutedClient
from tally.client.readiness import broken_streams, look, reasons, refusals, serving_slots
from tally.client.shared_look import KEEP_S
from tally.cluster.planning.standing import Told
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.cluster.state import ClusterState
from tests.support import cluster_values

# Slots 0 to 3: s1 has 0 and 1, s2 has 2, s3 has 3.
ROWS = SlotMap(tuple(SlotRow(2, shard, {shard: "00" * 16}) for shard in ("s1", "s1", "s2", "s3")))
ALL: Mapping[str, Mapping[int, int] | None] = {"s1": {0: 2, 1: 2}, "s2": {2: 2}, "s3": {3: 2}}


@pytest.mark.parametrize(
    ("differs", "expected"),
    [
        ({}, []),
        ({"s1": None}, ["shard s1 does not answer: 2 slots"]),
        ({"s2": None}, ["shard s2 does not answer: slot 2"]),
        ({"s1": {0: 2}}, ["shard s1 does not serve slot 1 yet"]),
        ({"s1": {}}, ["shard s1 does not serve 2 slots yet"]),
        ({"s1": {0: 1, 1: 2}}, ["shard s1 does not serve slot 0 yet"]),  # Still in the epoch before.
        ({"s1": {0: 3, 1: 2}}, []),  # The shard knows a newer map than we do.
        ({"s2": {2: 2, 3: 2}, "s3": {}}, ["shard s3 does not serve slot 3 yet"]),  # Not its slot to serve.
        ({"s3": None, "s1": None}, ["shard s1 does not answer: 2 slots", "shard s3 does not answer: slot 3"]),
    ],
)
def test_each_shard_that_falls_short_has_its_line(
    differs: Mapping[str, Mapping[int, int] | None], expected: list[str]
) -> None:
    assert reasons(ROWS, {**ALL, **differs}) == expected


async def test_cluster_without_a_map_says_how_many_shards_are_there() -> None:
    state = cluster_values.state(alive=("s0",))
    found = await look(state, {})
    assert (found.not_serving, found.refusing) == (["there is no map yet: 1 of 3 shards are there"], [])
    assert len(found.standing.unserved) == 8


async def test_shard_that_has_no_address_does_not_answer() -> None:
    state = cluster_values.state(mapped=True)
    assert (await look(state, {})).not_serving == [
        "shard s0 does not answer: 2 slots",
        "shard s1 does not answer: 3 slots",
        "shard s2 does not answer: 3 slots",
    ]


class PlayedShard:
    """A link and its stub in one: counts the calls of Status, which wait for ``gate``, and fail as told."""

    def __init__(self, shard: str, address: str, state: ClusterState) -> None:
        assert state.map is not None
        self.stub = self
        self.address = address
        self.calls = 0
        self.failures = 0
        self.gate = asyncio.Event()
        self.failure: BaseException | None = None
        own = {slot: row.epoch for slot, row in enumerate(state.map.rows) if row.primary == shard}
        self._status = node_pb2.StatusResponse(slots=own.keys(), epochs=own.values())

    def start(self, name: str) -> None:
        assert name

    async def close(self) -> None:
        return

    async def Status(
        self, _request: node_pb2.StatusRequest, *, timeout: float, metadata: grpc.aio.Metadata
    ) -> node_pb2.StatusResponse:
        assert timeout > 0
        assert metadata
        self.calls += 1
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return self._status


class HeldMap:
    """A source whose map never changes."""

    def __init__(self, state: ClusterState) -> None:
        self.state = state

    def refresh_soon(self) -> None:
        """Nothing is newer."""

    def on_change(self, callback: Callable[[ClusterState], None]) -> None:
        """Nothing will be."""


class Surroundings:
    """A client whose shards and clock are played."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 7.0
        self.shards: dict[str, PlayedShard] = {}
        self._state = cluster_values.state(mapped=True)
        patch.setattr("tally.client.client.ShardLink", self._link)
        self.client = RoutedClient(HeldMap(self._state))

    def _link(self, shard: str, address: str, **_more: object) -> PlayedShard:
        self.shards[shard] = PlayedShard(shard, address, self._state)
        return self.shards[shard]

    def time(self) -> float:
        return self.now

    async def asking(self, count: int) -> list["asyncio.Task[list[str]]"]:
        """Return this many who ask, once all of them wait."""
        asking = [asyncio.create_task(self.client.not_serving()) for _ in range(count)]
        for _ in range(20):
            await asyncio.sleep(0)
        return asking

    def let_answer(self) -> None:
        for shard in self.shards.values():
            shard.gate.set()

    @property
    def calls(self) -> list[int]:
        return [shard.calls for shard in self.shards.values()]


@pytest.fixture
async def around(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Surroundings]:
    around = Surroundings(monkeypatch)
    await around.client.start()
    monkeypatch.setattr(around.client, "_loop", around)
    yield around
    await around.client.close()


async def test_many_who_ask_at_once_make_one_call_for_each_shard(around: Surroundings) -> None:
    asking = await around.asking(100)
    asking[0].cancel()
    around.let_answer()
    assert await asyncio.gather(*asking[1:]) == [[]] * 99
    around.now += KEEP_S - 0.01
    assert await around.client.not_serving() == []
    assert around.calls == [1, 1, 1]
    around.now += 0.01
    assert await around.client.not_serving() == []
    assert around.calls == [2, 2, 2]
    found = await around.client.standing()
    assert found is not None
    assert (found.slots, found.unserved, found.copies_missing) == (8, (), 0)
    assert around.calls == [2, 2, 2], "a monitor shares the look too"


@pytest.mark.parametrize("failure", [asyncio.CancelledError(), grpc.aio.UsageError("Channel is closed.")])
async def test_shard_whose_channel_is_closed_during_the_call_does_not_answer(
    around: Surroundings, failure: BaseException
) -> None:
    """Its address changed; those who share the look did nothing."""
    asking = await around.asking(2)
    around.shards["s1"].failure = failure
    around.let_answer()
    assert await asyncio.gather(*asking) == [["shard s1 does not answer: 3 slots"]] * 2


async def test_look_that_is_cancelled_itself_ends() -> None:
    state = cluster_values.state(mapped=True)
    stub = PlayedShard("s0", "a:1", state)
    looking = asyncio.create_task(serving_slots(state, "s0", cast("node_pb2_grpc.NodeAsyncStub", stub)))
    await asyncio.sleep(0)
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking


def test_refusals_are_told_by_shard_and_reason() -> None:
    served = {
        "s2": Told({4: 1}, {4: "few_copies"}),
        "s1": Told({0: 1, 1: 1, 2: 1}, {0: "writer_forgotten", 2: "op_not_committed", 1: "writer_forgotten"}),
        "s3": None,
    }
    assert refusals(served) == [
        "shard s1 refuses something in slot 2: op_not_committed",
        "shard s1 refuses something in 2 slots: writer_forgotten",
        "shard s2 refuses something in slot 4: few_copies",
    ]


def test_stream_that_breaks_again_and_again_is_told_one_that_broke_is_not() -> None:
    assert broken_streams({"s1": 1, "s2": 7, "s3": 0}) == ["the stream to shard s2 broke 7 times in a row"]
