"""What the controller and the shards tell each other, as values of ours and as messages of node.proto. Pure.

On the wire an incarnation is 16 bytes, in the map and in all values of ours 32 hex digits.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from protos.tally.internal.v1 import node_pb2
from tally.cluster.op_name import OpName
from tally.cluster.planning.health import CopyHealth, ShardHealth
from tally.cluster.planning.standing import Told
from tally.cluster.rows import Change, Request

_CHANGES: Final[Mapping[Change, node_pb2.RowChange.ValueType]] = {
    Change.ADD: node_pb2.ROW_CHANGE_ADD,
    Change.REMOVE: node_pb2.ROW_CHANGE_REMOVE,
    Change.PROMOTE: node_pb2.ROW_CHANGE_PROMOTE,
    Change.TERM: node_pb2.ROW_CHANGE_TERM,
}
_BY_NUMBER: Final[Mapping[int, Change]] = {number: change for change, number in _CHANGES.items()}

INCARNATION_BYTES: Final = 16


def name_to_wire(name: OpName) -> node_pb2.OpName:
    """Return what is sent for the name of an op; ``NOTHING`` is an empty message."""
    return node_pb2.OpName(epoch=name.epoch, opnum=name.opnum, digest=name.digest)


def name_from_wire(wire: node_pb2.OpName) -> OpName:
    """Return what was sent; a message that was left out is ``NOTHING``."""
    return OpName(wire.epoch, wire.opnum, wire.digest)


def health_of(status: node_pb2.StatusResponse) -> ShardHealth:
    """Return what a shard says of itself; a copy that is not complete has no name yet, and is left out."""
    copies = {
        copy.slot: CopyHealth(
            copy.incarnation.hex(),
            complete=True,
            epoch=copy.epoch,
            serving=copy.serving,
            head=name_from_wire(copy.head),
        )
        for copy in status.copies
        if copy.incarnation
    }
    return ShardHealth(copies, disk_full=status.disk_full, stopping=status.stopping, told=told_of(status))


def told_of(status: node_pb2.StatusResponse) -> Told:
    """Return what of it tells how the cluster stands."""
    return Told(
        serving=dict(zip(status.slots, status.epochs, strict=False)),
        refusing=dict(zip(status.refusing_slots, status.refusing_reasons, strict=False)),
        copies={copy.slot: copy.incarnation.hex() for copy in status.copies if copy.incarnation},
        map_epochs=tuple(status.map_epochs),
    )


def wish_of(request: Request) -> node_pb2.RowChangeWish:
    """Return the message for a request."""
    return node_pb2.RowChangeWish(
        change=_CHANGES[request.change],
        slot=request.slot,
        epoch=request.epoch,
        shard=request.shard,
        incarnation=bytes.fromhex(request.incarnation),
        process=request.process,
        head=None if request.head is None else name_to_wire(request.head),
    )


def request_of(wish: node_pb2.RowChangeWish) -> Request | str:
    """Return the request in a message, or why there is none in it."""
    change = _BY_NUMBER.get(wish.change)
    if change is None:
        return f"there is no change {int(wish.change)}"
    if wish.epoch == 0 or not wish.shard:
        return "a request names an epoch and a shard"
    # A new term is asked for by a primary, whatever copy it has.
    if len(wish.incarnation) != INCARNATION_BYTES and (change is not Change.TERM or wish.incarnation):
        return f"an incarnation has {INCARNATION_BYTES} bytes, not {len(wish.incarnation)}"
    head = name_from_wire(wish.head) if wish.HasField("head") else None
    return Request(change, wish.slot, wish.epoch, wish.shard, wish.incarnation.hex(), wish.process, head)


def switches_message(switches: Mapping[int, str]) -> node_pb2.SwitchSlotsRequest:
    """Return the message for slot -> to whom it is to be handed over."""
    return node_pb2.SwitchSlotsRequest(slots=switches.keys(), shards=switches.values())


def switches_of(message: node_pb2.SwitchSlotsRequest) -> dict[int, str]:
    """Return slot -> to whom it is to be handed over; what is left over in the longer column is no switch."""
    return dict(zip(message.slots, message.shards, strict=False))


def requests_in(parsed: Iterable[Request | str]) -> list[Request]:
    """Return those that could be read."""
    return [one for one in parsed if isinstance(one, Request)]
