"""What is said about bytes that are no message."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from protos.tally.v1 import analytics_pb2
from shard.rpc.wire_faults import Fault, fault_in

DESCRIPTOR = analytics_pb2.RecordRequest.DESCRIPTOR
GOOD = analytics_pb2.Event(timestamp_ms=1, user="ann", kind=analytics_pb2.KIND_CLICK).SerializeToString()

NO_UTF8 = "must be valid UTF-8"
CUT = "is cut off, or is no protobuf message"


def call_of(*events: bytes) -> bytes:
    return b"".join(b"\x0a" + bytes([len(event)]) + event for event in events)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (call_of(GOOD, GOOD, b"\x12\x02\xc3\x28"), Fault("events[2].user", NO_UTF8)),
        (call_of(b"\x22\x01\xff"), Fault("events[0].idempotency_key", NO_UTF8)),
        (call_of(GOOD, b"\x12\x09ann"), Fault("events[1].user", CUT)),
        (call_of(GOOD) + b"\x0a\x40abc", Fault("events[1]", CUT)),
        (call_of(GOOD, b"\x08"), Fault("events[1].timestamp_ms", CUT)),
        (call_of(b"\xff" * 11), Fault("events[0]", CUT)),
        (b"\xff", Fault("", CUT)),
        (b"\x0f\x01", Fault("events[0]", CUT)),  # There is no such wire type.
    ],
)
def test_first_field_that_can_not_be_read_is_named(data: bytes, fault: Fault) -> None:
    with pytest.raises(DecodeError):
        analytics_pb2.RecordRequest.FromString(data)
    assert fault_in(data, DESCRIPTOR) == fault


def test_what_protobuf_alone_finds_wrong_is_said_to_be_no_message() -> None:
    assert fault_in(b"", DESCRIPTOR) == Fault("", "is not a tally.v1.RecordRequest")


@given(st.binary(max_size=60))
def test_whatever_comes_something_is_said(data: bytes) -> None:
    assert fault_in(data, DESCRIPTOR).reason
    assert fault_in(call_of(data), DESCRIPTOR).reason
