"""What can be content of a slot, and what can't."""

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.tally.internal.v1 import node_pb2
from shard.counting.content import BODY_BYTES_MAX, ContentCheck, fault_of_numbers
from shard.counting.keys import Counts, WriterRow, cell_key, known_key, user_key, without_generation, writer_key
from tally.cluster.plausible import LEAP_MAX
from tally.event import HOUR_MAX
from tally.hashing import slot_of
from tests.support.cluster_values import SMALL
from tests.support.events import HOUR

SLOT: Final = slot_of(HOUR, 0, SMALL)
CELL: Final = cell_key(7, HOUR, 0)
COUNTS: Final = Counts(1, 0, 1).encode()
ENTRIES: Final = [
    (CELL, COUNTS),
    (user_key(CELL, b"ann"), b""),
    (writer_key(7, bytes(16)), WriterRow(1, 2, bytes(16), b"").encode()),
    (known_key(7, 20_000, bytes(16)), b""),
]
OTHERS: Final = next(bucket for bucket in range(1, 4) if slot_of(HOUR, bucket, SMALL) != SLOT)


def body(**fields: Any) -> bytes:
    good = {
        "put_keys": [without_generation(key) for key, _ in ENTRIES],
        "put_values": [value for _, value in ENTRIES],
        "deletes": [without_generation(writer_key(7, b"w" * 16))],
        "range_starts": [b"k" + bytes(4)],
        "range_ends": [b"k\0\0\0\1"],
    }
    return node_pb2.OpBody(**{**good, **fields}).SerializeToString()


def fault(data: bytes) -> str:
    return ContentCheck(SLOT, SMALL).fault_of_body(data, 9)


def test_content_of_the_slot_is_taken() -> None:
    assert fault(body()) == ""
    assert ContentCheck(SLOT, SMALL).fault_of_entries(ENTRIES, generation=True) == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (cell_key(7, HOUR, OTHERS), COUNTS),
        (cell_key(7, HOUR, 65_535), COUNTS),
        (cell_key(7, HOUR_MAX + 1, 0), COUNTS),
        (CELL, b""),
        (CELL, COUNTS + b"\0"),
        (CELL, Counts(2**63, 0, 0).encode()),
        (CELL + b"\0", COUNTS),
        (user_key(CELL, b""), b""),
        (user_key(CELL, b"x" * 257), b""),
        (user_key(CELL, b"ann"), b"value"),
        (user_key(cell_key(7, HOUR, OTHERS), b"ann"), b""),
        (writer_key(7, b"short"), ENTRIES[2][1]),
        (writer_key(7, bytes(16)), b""),
        (writer_key(7, bytes(16)), ENTRIES[2][1] + bytes(1001)),
        (known_key(7, 1, b""), b""),
        (known_key(7, 1, bytes(16)), b"value"),
        (b"c\0\0\0\0\0\0\0", b""),
        (b"o\0\0\0\7" + bytes(8), b""),
        (b"h", b""),
        (b"", b""),
    ],
)
def test_what_is_not_of_the_slot_or_can_not_be_read_is_refused(key: bytes, value: bytes) -> None:
    assert fault(body(put_keys=[without_generation(key)], put_values=[value]))
    assert ContentCheck(SLOT, SMALL).fault_of_entries([(key, value)], generation=True)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        body(put_values=[]),
        body(put_keys=[]),
        body(range_ends=[]),
        body(range_starts=[b"k" + bytes(4)] * 2),
        body(range_starts=[b"h" + bytes(6)], range_ends=[b"h" + b"\xff" * 6]),
        body(range_starts=[b""], range_ends=[b"\xff"]),
        body(range_starts=[b"k" + bytes(4)] * 17, range_ends=[b"k" + bytes(4)] * 17),
        body(deletes=[without_generation(CELL)]),
        body(deletes=[b""]),
        body(deletes=[b"w" + bytes(16)] * 10_000),
        body(put_keys=[without_generation(CELL)] * 10_000, put_values=[COUNTS] * 10_000),
        bytes(BODY_BYTES_MAX + 1),
    ],
    ids=range(13),
)
def test_body_that_no_shard_makes_is_refused(data: bytes) -> None:
    assert fault(data)


def test_floor_far_above_the_op_is_refused() -> None:
    assert fault(body(floor=9 + LEAP_MAX)) == ""
    assert fault(body(floor=10 + LEAP_MAX))


@pytest.mark.parametrize("message", [node_pb2.OpBody, node_pb2.CloneEnd])
def test_each_number_of_a_record_at_its_highest_is_refused(message: Any) -> None:
    numbers = {field.name for field in node_pb2.OpBody.DESCRIPTOR.fields if not field.is_repeated}
    assert numbers
    assert fault_of_numbers(message(), 9) == ""
    for name in numbers:
        highest = 2**32 - 1 if message.DESCRIPTOR.fields_by_name[name].type == 13 else 2**64 - 1
        assert fault_of_numbers(message(**{name: highest}), 9), name


@given(st.binary(max_size=200))
def test_whatever_comes_is_content_or_refused(data: bytes) -> None:
    fault(data)
    ContentCheck(SLOT, SMALL).fault_of_entries([(data, data), (data[:7], b"")], generation=True)
