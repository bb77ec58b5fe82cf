"""Ops on the wire and back; an op without a body has an empty one."""

from protos.tally.internal.v1 import node_pb2
from shard.replica.words import Op
from tally.cluster.controller.node_words import name_from_wire, name_to_wire


def op_to_wire(op: Op) -> node_pb2.Op:
    """Return what is sent for an op; its body is a serialized ``OpBody``, or None."""
    return node_pb2.Op(name=name_to_wire(op.name), previous=name_to_wire(op.previous), body=op.body or b"")


def op_from_wire(wire: node_pb2.Op) -> Op:
    """Return what was sent."""
    return Op(name_from_wire(wire.name), name_from_wire(wire.previous), wire.body or None)
