"""Ops and their names on the wire."""

from hypothesis import given
from hypothesis import strategies as st

from protos.tally.internal.v1 import node_pb2
from shard.replica.wire import op_from_wire, op_to_wire
from shard.replica.words import Op
from tally.cluster.controller.node_words import name_from_wire, name_to_wire
from tally.cluster.op_name import NOTHING, OpName

u64 = st.integers(0, 2**64 - 1)
names = st.builds(OpName, u64, u64, st.binary(min_size=16, max_size=16)) | st.just(NOTHING)
ops = st.builds(Op, names, names, st.none() | st.binary(min_size=1))


@given(names)
def test_name_comes_back(name: OpName) -> None:
    assert name_from_wire(node_pb2.OpName.FromString(name_to_wire(name).SerializeToString())) == name


@given(ops)
def test_op_comes_back(op: Op) -> None:
    assert op_from_wire(node_pb2.Op.FromString(op_to_wire(op).SerializeToString())) == op


def test_empty_message_is_the_state_before_the_first_op() -> None:
    assert name_from_wire(node_pb2.OpName()) == NOTHING
    assert op_from_wire(node_pb2.Op()) == Op()
    assert op_to_wire(Op()) == node_pb2.Op(name=node_pb2.OpName(), previous=node_pb2.OpName())
