"""Requests, health and switches as messages, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.tally.internal.v1 import node_pb2
from tally.cluster.controller.node_words import (
    health_of,
    request_of,
    requests_in,
    switches_message,
    switches_of,
    wish_of,
)
from tally.cluster.op_name import NOTHING, OpName
from tally.cluster.planning.health import CopyHealth, ShardHealth
from tally.cluster.rows import Change, Request

NAME = "0123456789abcdef" * 2

heads = st.builds(OpName, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=16))


@given(
    st.builds(
        Request,
        change=st.sampled_from(Change),
        slot=st.integers(0, 2**32 - 1),
        epoch=st.integers(1, 2**64 - 1),
        shard=st.text(min_size=1).filter(lambda text: text.isprintable()),
        incarnation=st.binary(min_size=16, max_size=16).map(bytes.hex),
        process=st.text(),
        head=st.none() | st.just(NOTHING) | heads,
    )
)
def test_request_comes_back_as_it_went(request: Request) -> None:
    message = wish_of(request)
    assert request_of(node_pb2.RowChangeWish.FromString(message.SerializeToString())) == request


def test_new_term_needs_no_copy() -> None:
    request = Request(Change.TERM, 1, 2, "s0", "", "p0")
    assert request_of(wish_of(request)) == request


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        (node_pb2.RowChangeWish(), "no change 0"),
        (node_pb2.RowChangeWish(change=77, epoch=1, shard="s0"), "no change 77"),  # type: ignore[arg-type]
        (node_pb2.RowChangeWish(change=node_pb2.ROW_CHANGE_TERM, shard="s0"), "epoch"),
        (node_pb2.RowChangeWish(change=node_pb2.ROW_CHANGE_TERM, epoch=1), "shard"),
        (node_pb2.RowChangeWish(change=node_pb2.ROW_CHANGE_ADD, epoch=1, shard="s0"), "16 bytes, not 0"),
        (
            node_pb2.RowChangeWish(change=node_pb2.ROW_CHANGE_TERM, epoch=1, shard="s0", incarnation=b"abc"),
            "16 bytes, not 3",
        ),
    ],
)
def test_wish_that_can_not_be_read_is_refused_with_the_reason(wish: node_pb2.RowChangeWish, reason: str) -> None:
    found = request_of(wish)
    assert isinstance(found, str)
    assert reason in found
    assert requests_in([found]) == []


def test_health_leaves_out_copies_without_a_name() -> None:
    status = node_pb2.StatusResponse(
        shard="s0",
        copies=[
            node_pb2.CopyStatus(
                slot=1,
                incarnation=bytes.fromhex(NAME),
                epoch=7,
                serving=True,
                head=node_pb2.OpName(epoch=6, opnum=9, digest=b"d" * 16),
            ),
            node_pb2.CopyStatus(slot=2, epoch=3, joining=True),
        ],
        disk_full=True,
    )
    copies = {1: CopyHealth(NAME, complete=True, epoch=7, serving=True, head=OpName(6, 9, b"d" * 16))}
    assert health_of(status) == ShardHealth(copies, disk_full=True, stopping=False)
    assert health_of(node_pb2.StatusResponse(stopping=True)) == ShardHealth(stopping=True)


def test_switches_come_back_as_they_went() -> None:
    switches = {3: "s1", 1: "s2"}
    assert switches_of(switches_message(switches)) == switches
    assert switches_of(node_pb2.SwitchSlotsRequest(slots=[1, 2], shards=["s1"])) == {1: "s1"}
