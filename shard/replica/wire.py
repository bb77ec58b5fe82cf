"""Ops and their names on the wire and back. ``NOTHING`` is an empty message; an op without a body has an empty one."""

from protos.tally.internal.v1 import node_pb2
from shard.replica.words import Op, OpName


def name_to_wire(name: OpName) -> node_pb2.OpName:
    """Return what is sent for the name of an op."""
    return node_pb2.OpName(epoch=name.epoch, opnum=name.opnum, digest=name.digest)


def name_from_wire(wire: node_pb2.OpName) -> OpName:
    """Return what was sent; a message that was left out is ``NOTHING``."""
    return OpName(wire.epoch, wire.opnum, wire.digest)


def op_to_wire(op: Op) -> node_pb2.Op:
    """Return what is sent for an op; its body is a serialized ``OpBody``, or None."""
    return node_pb2.Op(name=name_to_wire(op.name), previous=name_to_wire(op.previous), body=op.body or b"")


def op_from_wire(wire: node_pb2.Op) -> Op:
    """Return what was sent."""
    return Op(name_from_wire(wire.name), name_from_wire(wire.previous), wire.body or None)
