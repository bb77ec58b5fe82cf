"""What copies ask each other on the wire and back. Pure."""

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from protos.tally.internal.v1 import node_pb2
from shard.replica.wire import op_from_wire, op_to_wire
from shard.replica.words import Answer, Confirm, Forward, Heads, Message, Op, Verdict

INCARNATION_BYTES: Final = 16
CALLS_MAX: Final = 16_384  # In one message: each of 4096 slots calls a copy about once at a time.
MESSAGE_BYTES: Final = 2 * 2**20  # About: what goes beyond it goes into the next message.

NO_OP: Final = Op()

_VERDICTS: Final = {
    Verdict.OK: node_pb2.VERDICT_OK,
    Verdict.NO_COPY: node_pb2.VERDICT_NO_COPY,
    Verdict.STALE: node_pb2.VERDICT_STALE,
    Verdict.DIVERGED: node_pb2.VERDICT_DIVERGED,
}
_VERDICTS_BACK: Final = {wire: verdict for verdict, wire in _VERDICTS.items()}


class Call(NamedTuple):
    """One call of a stream."""

    call: int
    slot: int
    message: Message


def put_call(request: node_pb2.ReplicateRequest, call: Call) -> int:
    """Add a call to what is sent; return about how many bytes it takes."""
    match call.message:
        case Forward(epoch, incarnation, op):
            request.forwards.add(
                call=call.call, slot=call.slot, epoch=epoch, incarnation=bytes.fromhex(incarnation), op=op_to_wire(op)
            )
            return 100 + len(op.body or b"")
        case Heads(epoch):
            request.heads.add(call=call.call, slot=call.slot, epoch=epoch)
        case Confirm(epoch, incarnation):
            request.confirms.add(call=call.call, slot=call.slot, epoch=epoch, incarnation=bytes.fromhex(incarnation))
        case message:
            raise AssertionError(message)
    return 50


def calls_of(request: node_pb2.ReplicateRequest, slots: int) -> Iterator[Call]:
    """Yield the calls of a message; those that can't be meant are left out, and never answered."""
    for forward in request.forwards:
        if forward.call and forward.slot < slots and len(forward.incarnation) == INCARNATION_BYTES:
            message = Forward(forward.epoch, forward.incarnation.hex(), op_from_wire(forward.op))
            yield Call(forward.call, forward.slot, message)
    for heads in request.heads:
        if heads.call and heads.slot < slots:
            yield Call(heads.call, heads.slot, Heads(heads.epoch))
    for confirm in request.confirms:
        if confirm.call and confirm.slot < slots and len(confirm.incarnation) == INCARNATION_BYTES:
            yield Call(confirm.call, confirm.slot, Confirm(confirm.epoch, confirm.incarnation.hex()))


def count_of(request: node_pb2.ReplicateRequest) -> int:
    """Return how many calls a message has."""
    return len(request.forwards) + len(request.heads) + len(request.confirms)


def size_of(call: Call) -> int:
    """Return about how many bytes a call keeps until it is answered."""
    return 200 + (len(call.message.op.body or b"") if isinstance(call.message, Forward) else 0)


def put_answer(response: node_pb2.ReplicateResponse, call: Call, answer: Answer) -> int:
    """Add an answer to what is sent, with the head only where it was asked for; return about how large it is."""
    with_head = isinstance(call.message, Heads)
    response.answers.add(
        call=call.call,
        slot=call.slot,
        verdict=_VERDICTS[answer.verdict],
        epoch=answer.epoch,
        incarnation=bytes.fromhex(answer.incarnation),
        head=op_to_wire(answer.head) if with_head else None,
    )
    return 50 + (len(answer.head.body or b"") if with_head else 0)


def next_answers(waiting: deque[tuple[Call, Answer]]) -> node_pb2.ReplicateResponse:
    """Take answers off, as many as belong in one message, at least one; heads have their ops with them."""
    response, size = node_pb2.ReplicateResponse(), 0
    while waiting and size < MESSAGE_BYTES:
        size += put_answer(response, *waiting.popleft())
    return response


def answer_of(wire: node_pb2.CopyAnswer) -> Answer | None:
    """Read an answer; None if it is of a kind that is not known here, or of a copy that can't be."""
    verdict = _VERDICTS_BACK.get(wire.verdict)
    if verdict is None or len(wire.incarnation) not in {0, INCARNATION_BYTES}:
        return None
    head = op_from_wire(wire.head) if wire.HasField("head") else NO_OP
    return Answer(verdict, wire.epoch, wire.incarnation.hex(), head)
