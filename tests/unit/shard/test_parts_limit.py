"""Which messages between nodes are not unpacked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.tally.internal.v1 import node_pb2
from shard.rpc.parts_limit import PARTS_MAX, SMALL_BYTES, has_too_many_parts


@pytest.mark.parametrize("part", [b"\x0a\x00", b"\x08\x01", b"\x0d\0\0\0\0", b"\x09" + bytes(8), b"\x9a\x01\x00"])
def test_message_of_too_many_parts_is_refused(part: bytes) -> None:
    assert has_too_many_parts(part * (PARTS_MAX + 1))
    assert not has_too_many_parts(part * (PARTS_MAX - 1))


def test_largest_message_of_a_gateway_is_unpacked() -> None:
    batch = node_pb2.SubBatch(id=2**40, writer=bytes(16), seq=1, slot=4095, epoch=9, hours=[1], users=[b"x" * 256])
    message = node_pb2.ExchangeRequest(sub_batches=[batch] * 9000).SerializeToString()
    assert len(message) > SMALL_BYTES
    assert not has_too_many_parts(message)


@given(st.binary(min_size=1, max_size=50))
def test_whatever_comes_is_decided_on(data: bytes) -> None:
    has_too_many_parts(data * (SMALL_BYTES // len(data) + 2))
