"""What an op changes, as bytes that mean the same on every copy: the keys are without the generation. Pure."""

from google.protobuf.message import DecodeError

from protos.tally.internal.v1 import node_pb2
from shard.counting.changes import Changes
from shard.counting.keys import CopyRecord, with_generation, without_generation
from shard.counting.op import Counted
from tally.errors import StoreCorrupt


def encode_body(counted: Counted) -> bytes:
    """Return the body of an op that was counted here; never empty."""
    record = counted.record
    return node_pb2.OpBody(
        writers=record.writers,
        floor=record.floor,
        label=record.label,
        label_ms=record.label_ms,
        keys_label=record.keys_label,
        put_keys=[without_generation(key) for key, _ in counted.puts],
        put_values=[value for _, value in counted.puts],
        deletes=[without_generation(key) for key in counted.deletes],
        range_starts=[without_generation(start) for start, _ in counted.range_deletes],
        range_ends=[without_generation(end) for _, end in counted.range_deletes],
    ).SerializeToString()


def decode_body(body: bytes, record: CopyRecord) -> tuple[CopyRecord, Changes]:
    """Return a copy's record after an op, its head not yet named, and what the op changes in it.

    Raises:
        StoreCorrupt: The body can't be read.
    """
    try:
        wire = node_pb2.OpBody.FromString(body)
        puts = list(zip(wire.put_keys, wire.put_values, strict=True))
        ranges = list(zip(wire.range_starts, wire.range_ends, strict=True))
    except (DecodeError, ValueError) as exc:
        raise StoreCorrupt("the body of an op") from exc
    own = record.generation
    return (
        record._replace(
            writers=wire.writers,
            floor=max(wire.floor, record.floor),  # Versions before floors tell none.
            label=wire.label,
            label_ms=wire.label_ms,
            keys_label=wire.keys_label,
        ),
        Changes(
            [(with_generation(own, key), value) for key, value in puts],
            [with_generation(own, key) for key in wire.deletes],
            [(with_generation(own, start), with_generation(own, end)) for start, end in ranges],
        ),
    )
