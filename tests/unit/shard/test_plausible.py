"""What no honest shard says, of calls, answers and clones."""

from typing import Final

import pytest

from shard.replica.plausible import fault_of_answer, fault_of_call, fault_of_clone, is_op
from shard.replica.words import Answer, Clone, Cloned, Confirm, Forward, Heads, Message, Op, Verdict
from tally.cluster.op_name import NOTHING, OpName
from tally.cluster.plausible import LEAP_MAX

KNOWN: Final = 7
NAME: Final = "ab" * 16
D: Final = b"d" * 16
OP: Final = Op(OpName(7, 9, D), OpName(6, 8, D), b"body")
FIRST: Final = Op(OpName(1, 1, D), NOTHING, b"body")


@pytest.mark.parametrize(
    "op", [Op(), OP, FIRST, Op(OpName(3, 4, D)), Op(OpName(3, 4, D), OpName(3, 3, D))], ids=range(5)
)
def test_op_that_there_can_be_is_taken(op: Op) -> None:
    assert is_op(op)


@pytest.mark.parametrize(
    "op",
    [
        OP._replace(previous=OpName(6, 7, D)),
        OP._replace(previous=OpName(8, 8, D)),
        OP._replace(previous=OpName(6, 8, b"")),
        OP._replace(previous=NOTHING),
        OP._replace(name=OpName(7, 2**63, D)),
        OP._replace(name=OpName(0, 9, D)),
        OP._replace(name=OpName(7, 9, D + D)),
        OP._replace(name=NOTHING),
        Op(NOTHING, NOTHING, b"body"),
    ],
    ids=range(9),
)
def test_op_that_there_can_not_be_is_refused(op: Op) -> None:
    assert not is_op(op)


@pytest.mark.parametrize(
    "message",
    [
        Heads(1),
        Heads(KNOWN + LEAP_MAX),
        Confirm(7, NAME),
        Forward(7, NAME, OP),
        Forward(9, NAME, FIRST),
        Clone(NAME, None),
        Clone(NAME, NOTHING),
        Clone(NAME, OP.name),
    ],
    ids=range(8),
)
def test_call_that_a_shard_may_make_is_taken(message: Message) -> None:
    assert fault_of_call(message, KNOWN) == ""


@pytest.mark.parametrize(
    "message",
    [
        Heads(0),
        Heads(KNOWN + LEAP_MAX + 1),
        Heads(2**62),
        Confirm(2**64 - 1, NAME),
        Confirm(7, ""),
        Confirm(7, NAME + "00"),
        Forward(2**62, NAME, OP),
        Forward(7, "ab", OP),
        Forward(6, NAME, OP),  # The op is of a later epoch than the term that sends it.
        Forward(7, NAME, OP._replace(name=OpName(7, 10, D))),
        Clone("", None),
        Clone(NAME, OpName(7, 9, b"short")),
        Clone(NAME, OpName(0, 9, D)),
    ],
    ids=range(13),
)
def test_call_that_no_shard_makes_is_refused(message: Message) -> None:
    assert fault_of_call(message, KNOWN)


@pytest.mark.parametrize(
    ("answer", "fits"),
    [
        (Answer(Verdict.OK, 7, NAME, OP), True),
        (Answer(Verdict.NO_COPY, 0), True),
        (Answer(Verdict.STALE, 5, NAME, OP), True),
        (Answer(Verdict.STALE, KNOWN + LEAP_MAX, NAME), True),
        (Answer(Verdict.STALE, KNOWN + LEAP_MAX + 1, NAME), False),
        (Answer(Verdict.OK, 7, "ab", OP), False),
        (Answer(Verdict.OK, 7, NAME, Op(OpName(7, 8 + LEAP_MAX + 1, D))), False),
        (Answer(Verdict.OK, 7, NAME, Op(OpName(2**62, 9, D))), False),
    ],
    ids=range(8),
)
def test_answer_is_held_against_what_is_known_here(answer: Answer, *, fits: bool) -> None:
    assert (fault_of_answer(answer, KNOWN, 8) == "") is fits


@pytest.mark.parametrize(
    ("answer", "fits"),
    [
        (Cloned(granted=False), True),
        (Cloned(granted=True, epoch=7, head=OP), True),
        (Cloned(granted=True, epoch=7, head=Op()), True),
        (Cloned(granted=True, epoch=KNOWN + LEAP_MAX + 1, head=OP), False),
        (Cloned(granted=True, epoch=0, head=Op()), False),
        (Cloned(granted=True, epoch=6, head=OP), False),
    ],
    ids=range(6),
)
def test_clone_is_held_against_what_is_known_here(answer: Cloned, *, fits: bool) -> None:
    assert (fault_of_clone(answer, KNOWN) == "") is fits
