"""What copies ask each other, on the wire: nothing is forgotten, and no message grows too large."""

from collections import deque
from typing import Final

from protos.tally.internal.v1 import node_pb2
from shard.replica.words import Answer, Confirm, Forward, Heads, Op, Verdict
from shard.rpc.calls_wire import MESSAGE_BYTES, Call, answer_of, calls_of, next_answers, put_call
from tally.client.channel import MESSAGE_BYTES_MAX
from tally.cluster.op_name import OpName

INCARNATION: Final = "ab" * 16
LARGEST_OP: Final = Op(OpName(3, 9, b"d" * 16), OpName(3, 8, b"c" * 16), bytes(600_000))


def test_calls_come_back() -> None:
    calls = [
        Call(1, 5, Forward(3, INCARNATION, LARGEST_OP)),
        Call(2, 6, Heads(3)),
        Call(3, 7, Confirm(3, INCARNATION)),
    ]
    request = node_pb2.ReplicateRequest()
    for call in calls:
        put_call(request, call)
    assert list(calls_of(node_pb2.ReplicateRequest.FromString(request.SerializeToString()), slots=8)) == calls


def test_calls_for_slots_that_there_are_not_are_left_out() -> None:
    request = node_pb2.ReplicateRequest()
    put_call(request, Call(1, 8, Heads(3)))
    assert list(calls_of(request, slots=8)) == []


def test_heads_of_many_slots_with_large_ops_fit_their_messages() -> None:
    """A term that starts asks for the heads of hundreds of slots at once, and each answer holds an op."""
    answer = Answer(Verdict.OK, 3, INCARNATION, LARGEST_OP)
    waiting = deque((Call(call, call, Heads(3)), answer) for call in range(100))
    came: list[int] = []
    while waiting:
        response = next_answers(waiting)
        assert response.ByteSize() <= MESSAGE_BYTES + len(LARGEST_OP.body) + 1_000 < MESSAGE_BYTES_MAX
        assert all(answer_of(wire) == answer for wire in response.answers)
        came += [wire.call for wire in response.answers]
    assert came == list(range(100))


def test_heads_are_told_to_those_who_ask_for_them_only() -> None:
    waiting = deque([(Call(1, 1, Confirm(3, INCARNATION)), Answer(Verdict.OK, 3, INCARNATION, LARGEST_OP))])
    (wire,) = next_answers(waiting).answers
    assert answer_of(wire) == Answer(Verdict.OK, 3, INCARNATION, Op())
