"""What no honest shard says: numbers, names and ops that a copy can't come by. It is refused before it is stored. Pure.

A copy believes what a member of its cluster says. But one wrong number, such as an epoch that leaves no room above it,
would outlive whoever said it: it is stored, and no row of the map ever comes up to it.
"""

from typing import Final

from shard.replica.words import Answer, Clone, Cloned, Confirm, Forward, Message, Op
from tally.cluster.op_name import NOTHING, OpName
from tally.cluster.plausible import LEAP_MAX

_DIGEST_BYTES: Final = 16
_INCARNATION_DIGITS: Final = 32


def is_op(op: Op) -> bool:
    """Tell whether an op can be one: the first one follows nothing, each other one the number before its own."""
    if op.name == NOTHING:
        return op == Op()
    if op.previous == NOTHING:
        # Of a head without a body nothing but its name may be known.
        return is_name(op.name) and (op.name.opnum == 1 or op.body is None)
    if not (is_name(op.name) and is_name(op.previous)):
        return False
    return op.previous.opnum + 1 == op.name.opnum and op.previous.epoch <= op.name.epoch


def is_name(name: OpName) -> bool:
    """Tell whether an op can have that name."""
    return name.epoch >= 1 and name.opnum >= 1 and len(name.digest) == _DIGEST_BYTES


def fault_of_call(message: Message, known: int) -> str:
    """Return why no honest shard makes such a call; "" if one may.

    Args:
        message: The call.
        known: The highest epoch of the slot that is known here, from the map or from the disk.
    """
    match message:
        case Clone(incarnation, head):
            if head is not None and head != NOTHING and not is_name(head):
                return "the name of a head"
            return _fault_of_incarnation(incarnation)
        case Forward(epoch, incarnation, op):
            fault = _fault_of_epoch(epoch, known) or _fault_of_incarnation(incarnation)
            return fault or ("" if is_op(op) and op.name.epoch <= epoch else "an op")
        case Confirm(epoch, incarnation):
            return _fault_of_epoch(epoch, known) or _fault_of_incarnation(incarnation)
        case _:
            return _fault_of_epoch(message.epoch, known)


def fault_of_answer(answer: Answer, known: int, opnum: int) -> str:
    """Return why no honest shard answers so; "" if one may.

    Args:
        answer: To one of our calls.
        known: As above.
        opnum: Of the head here.
    """
    if answer.epoch > known + LEAP_MAX:
        return "an epoch"
    if answer.incarnation and (fault := _fault_of_incarnation(answer.incarnation)):
        return fault
    name = answer.head.name
    fits = is_op(answer.head) and name.epoch <= known + LEAP_MAX and name.opnum <= opnum + LEAP_MAX
    return "" if fits else "a head"


def fault_of_clone(answer: Cloned, known: int) -> str:
    """Return why no honest shard gives such a copy, as far as its head tells; "" if one may."""
    if not answer.granted:
        return ""
    if fault := _fault_of_epoch(answer.epoch, known):
        return fault
    return "" if is_op(answer.head) and answer.head.name.epoch <= answer.epoch else "a head"


def _fault_of_epoch(epoch: int, known: int) -> str:
    return "" if 1 <= epoch <= known + LEAP_MAX else "an epoch"


def _fault_of_incarnation(incarnation: str) -> str:
    return "" if len(incarnation) == _INCARNATION_DIGITS else "an incarnation"
