"""What a shard reads from the wire between nodes: whatever comes, it is a value or it is malformed."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from protos.tally.internal.v1 import node_pb2
from shard.counting.op import OP_EVENTS_MAX, SubBatch
from shard.engine.hour_parts import Question
from shard.rpc.exchange import asks_for_opnum, question_from_wire, sub_batch_from_wire
from tally.event import HOUR_MAX
from tally.hashing import Shape
from tests.support.cluster_values import SMALL
from tests.support.events import HOUR

SHAPE = Shape(slots=8, spreads=((0, 4), (HOUR, 8)))


def sub_batch() -> node_pb2.SubBatch:
    return node_pb2.SubBatch(
        id=9, writer=bytes(16), seq=1, slot=7, epoch=1, hours=[HOUR, 0], users=[b"ann", b""], kinds=b"\x01\x09"
    )


def test_sub_batch_is_read_with_events_that_are_not_valid() -> None:
    """They are recorded as refused, so that the number is used."""
    assert sub_batch_from_wire(sub_batch(), SMALL) == SubBatch(bytes(16), 1, (HOUR, 0), (b"ann", b""), b"\x01\x09")


def test_sub_batch_is_read_with_keys_of_some_events() -> None:
    wire = sub_batch()
    wire.keys.extend([b"", b"k" * 16])
    read = sub_batch_from_wire(wire, SHAPE)
    assert read is not None
    assert read.keys == (b"", b"k" * 16)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda wire: setattr(wire, "writer", bytes(15)),
        lambda wire: setattr(wire, "writer", bytes(17)),
        lambda wire: setattr(wire, "writer", b""),
        lambda wire: setattr(wire, "seq", 0),
        lambda wire: setattr(wire, "seq", 2**63),
        lambda wire: setattr(wire, "seq", 2**64 - 1),
        lambda wire: setattr(wire, "heard", 2**63),
        lambda wire: setattr(wire, "heard", 2**64 - 1),
        lambda wire: setattr(wire, "slot", 8),
        lambda wire: setattr(wire, "slot", 2**32 - 1),
        lambda wire: setattr(wire, "kinds", b"\x01"),
        lambda wire: setattr(wire, "kinds", b"\x01\x01\x01"),
        lambda wire: wire.hours.append(HOUR),
        lambda wire: wire.users.append(b"bob"),
        lambda wire: wire.users.pop(),
        lambda wire: wire.keys.append(bytes(16)),
        lambda wire: wire.keys.extend([b""] * 3),
        lambda wire: wire.keys.extend([bytes(16), bytes(15)]),
        lambda wire: wire.keys.extend([bytes(17), b""]),
        lambda wire: wire.MergeFrom(node_pb2.SubBatch(hours=[1] * 999, users=[b"a"] * 999, kinds=b"\x01" * 1001)),
    ],
)
def test_sub_batch_that_can_not_be_recorded_is_malformed(spoil: Callable[[node_pb2.SubBatch], object]) -> None:
    wire = sub_batch()
    spoil(wire)
    assert sub_batch_from_wire(wire, SMALL) is None


def test_sub_batch_without_events_is_malformed() -> None:
    empty = node_pb2.SubBatch(id=1, writer=bytes(16), seq=1, slot=0, epoch=1)
    assert sub_batch_from_wire(empty, SMALL) is None


@pytest.mark.parametrize(
    ("wire", "asks"),
    [
        (node_pb2.SubBatch(id=1, slot=7, epoch=1), True),
        (node_pb2.SubBatch(id=1, slot=8, epoch=1), False),
        (node_pb2.SubBatch(id=1, seq=1, slot=7), False),
        (node_pb2.SubBatch(id=1, slot=7, hours=[HOUR]), False),
        (node_pb2.SubBatch(id=1, slot=7, users=[b"ann"]), False),
        (node_pb2.SubBatch(id=1, slot=7, kinds=b"\x01"), False),
        (node_pb2.SubBatch(id=1, slot=7, keys=[b""]), False),
    ],
)
def test_only_a_sub_batch_without_number_and_events_asks_for_the_opnum(wire: node_pb2.SubBatch, asks: bool) -> None:
    assert asks_for_opnum(wire, SMALL) is asks
    assert sub_batch_from_wire(wire, SMALL) is None


def test_largest_sub_batch_is_read() -> None:
    columns = {"hours": [HOUR] * OP_EVENTS_MAX, "users": [b"ann"] * OP_EVENTS_MAX, "kinds": b"\x01" * OP_EVENTS_MAX}
    wire = node_pb2.SubBatch(id=1, writer=bytes(16), seq=2**63 - 1, slot=0, heard=2**63 - 1, **columns)  # type: ignore[arg-type]
    assert sub_batch_from_wire(wire, SMALL) is not None


@pytest.mark.parametrize(
    ("hour", "buckets", "epochs", "reads"),
    [
        (HOUR, (0, 7, 3), (1, 2, 3), True),
        (HOUR - 1, (0, 3), (1, 1), True),
        (HOUR, (), (), True),
        (HOUR_MAX, (0,), (1,), True),
        (HOUR_MAX + 1, (0,), (1,), False),
        (HOUR, (8,), (1,), False),
        (HOUR - 1, (4,), (1,), False),  # The hour before had fewer buckets.
        (HOUR, (1, 1), (1, 1), False),
        (HOUR, (0, 1), (1,), False),
        (HOUR, (0,), (1, 2), False),
    ],
)
def test_question_is_read_if_the_hour_has_its_buckets(
    hour: int, buckets: tuple[int, ...], epochs: tuple[int, ...], reads: bool
) -> None:
    wire = node_pb2.HourRead(id=1, hour=hour, buckets=buckets, epochs=epochs)
    assert question_from_wire(wire, SHAPE) == (Question(hour, buckets, epochs) if reads else None)


@given(st.binary(max_size=200))
def test_any_bytes_that_parse_are_read_or_malformed(message: bytes) -> None:
    with suppress(DecodeError):
        sub_batch_from_wire(node_pb2.SubBatch.FromString(message), SHAPE)
    with suppress(DecodeError):
        asks_for_opnum(node_pb2.SubBatch.FromString(message), SHAPE)
    with suppress(DecodeError):
        question_from_wire(node_pb2.HourRead.FromString(message), SHAPE)
