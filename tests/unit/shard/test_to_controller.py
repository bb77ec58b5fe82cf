"""Through whom a shard asks the controller."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest

from protos.tally.internal.v1 import node_pb2
from shard.rpc.to_controller import OTHERS, ToController, Ways
from tally.cluster.controller.controller import Controller
from tally.cluster.controller.node_calls import NodeCalls
from tally.cluster.controller.node_words import wish_of
from tally.cluster.members import ControllerSeat
from tally.cluster.op_name import OpName
from tally.cluster.reader import ClusterReader
from tally.cluster.rows import Change, Refusal, Request
from tally.errors import NotController, Unreachable
from tests.support.cluster_values import members, state

REQUEST: Final = Request(Change.REMOVE, 1, 1, "s1", "0" * 32, "p0", OpName(4, 8, b"d" * 16))
ALIVE = ("s1", "s2", "s3", "s4", "s5", "s6")


def test_controller_itself_comes_first_and_then_some_others() -> None:
    order = Ways("s1").order("s2", ALIVE)
    assert order[0] == "s2"
    assert len(order) == 1 + OTHERS
    assert not {"s1", "s2"} & set(order[1:])


def test_who_passed_it_on_is_asked_first_the_next_time() -> None:
    """Else each request would cost the time-out of the direct way."""
    ways = Ways("s1")
    through = ways.order("s2", ALIVE)[2]
    ways.worked(through)
    assert ways.order("s2", ALIVE)[:2] == [through, "s2"]
    ways.worked("s2")
    assert ways.order("s2", ALIVE)[0] == "s2"


def test_another_controller_is_asked_directly() -> None:
    ways = Ways("s1")
    ways.worked(ways.order("s2", ALIVE)[1])
    assert ways.order("s3", ALIVE)[0] == "s3"


def test_who_passed_it_on_and_is_gone_is_not_asked() -> None:
    ways = Ways("s1")
    ways.order("s2", ALIVE)
    ways.worked("s3")
    assert ways.order("s2", ["s1", "s2", "s4"]) == ["s2", "s4"]


def test_when_nobody_answered_it_is_tried_through_all_others_in_turn() -> None:
    ways = Ways("s1")
    asked: set[str] = set()
    for _ in range(2):
        asked |= set(ways.order("s2", ALIVE)[1:])
        ways.failed()
    assert asked == {"s3", "s4", "s5", "s6"}


def test_without_others_there_is_the_direct_way() -> None:
    assert Ways("s1").order("s2", ["s1"]) == ["s2"]


class PlayedCalls(NodeCalls):
    """Calls that reach only some shards, and note who was asked for what."""

    def __init__(self, reaches: Sequence[str]) -> None:
        super().__init__(state)
        self.reaches = reaches
        self.asked: list[tuple[str, bool]] = []

    async def change_rows(
        self, address: str, shard: str, wishes: Sequence[node_pb2.RowChangeWish], *, pass_on: bool = False
    ) -> list[str]:
        assert address
        self.asked.append((shard, pass_on))
        if shard not in self.reaches:
            raise Unreachable(shard)
        return [""] * len(wishes)


class PlayedReader(ClusterReader):
    """Three shards, of which s1 is the controller."""

    def __init__(self) -> None:
        self._state = replace(state(), controller=ControllerSeat("s1", "a:1"), alive=dict.fromkeys(members(3), ""))


class Another(Controller):
    """The part of a shard that was not elected."""

    def __init__(self) -> None:
        """Nothing is needed to refuse."""

    elected = False

    async def request(self, requests: Sequence[Request]) -> list[Refusal | None]:
        assert requests
        raise NotController("s0")


def to_controller(reaches: Sequence[str]) -> tuple[ToController, PlayedCalls]:
    calls = PlayedCalls(reaches)
    return ToController("s0", PlayedReader(), Another(), calls), calls


async def test_who_can_not_reach_the_controller_asks_through_another() -> None:
    ours, calls = to_controller(["s2"])
    await ours.ask([REQUEST])
    assert calls.asked == [("s1", False), ("s2", True)]
    await ours.ask([REQUEST])
    assert calls.asked[2:] == [("s2", True)]


async def test_who_reaches_nobody_says_so() -> None:
    ours, calls = to_controller([])
    with pytest.raises(Unreachable, match="s1"):
        await ours.ask([REQUEST])
    assert calls.asked == [("s1", False), ("s2", True)]


async def test_what_is_to_be_passed_on_is_passed_on_once() -> None:
    ours, calls = to_controller(["s1"])
    assert await ours.take(node_pb2.ChangeRowsRequest(changes=[wish_of(REQUEST)], pass_on=True)) == [""]
    assert calls.asked == [("s1", False)]


async def test_what_is_meant_for_the_controller_itself_is_not_passed_on() -> None:
    ours, calls = to_controller(["s1"])
    with pytest.raises(NotController):
        await ours.take(node_pb2.ChangeRowsRequest(changes=[wish_of(REQUEST)]))
    assert not calls.asked
