"""What one transaction makes of the requests of primaries, and who waits for it."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tally.cluster.controller.row_requests import (
    GATHER_S,
    REQUESTS_AT_ONCE,
    Believed,
    Outcome,
    WaitingCalls,
    outcome_of,
)
from tally.cluster.members import Wanted
from tally.cluster.op_name import OpName
from tally.cluster.planning.health import CopyHealth, ShardHealth
from tally.cluster.planning.placement import first_map
from tally.cluster.rows import Change, Request
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.cluster.state import ClusterState
from tally.errors import NotController, Overloaded
from tests.support.cluster_values import PROCESS, member, members, state

STATE = state(mapped=True)
TERMS = [Request(Change.TERM, slot, 1, "s0", "", PROCESS) for slot in range(8)]
WELL = Believed()


def outcome(
    of: ClusterState, requests: Sequence[Request], believed: Believed = WELL, look: ShardHealth | None = None
) -> Outcome:
    """Return what comes of requests; ``look`` is what each shard that they are about answered."""
    return outcome_of(of, requests, [look] * len(requests), believed)


def test_without_a_map_all_are_refused() -> None:
    found = outcome(state(), TERMS)
    assert found.map is None
    assert [answer is not None and answer.row for answer in found.answers] == [None] * 8


def test_what_is_refused_needs_no_write() -> None:
    found = outcome(STATE, [TERMS[0]._replace(epoch=7)])
    assert found.map is None
    assert found.answers[0] is not None


def test_answers_are_in_the_order_of_the_requests() -> None:
    requests = [
        TERMS[0],
        Request(Change.REMOVE, 1, 1, "s1", "x", PROCESS),
        TERMS[0],
        TERMS[2],
        TERMS[3]._replace(slot=99),
    ]
    for barred in ("", "too few"):
        found = outcome(STATE, requests, Believed(barred))
        assert [answer is None for answer in found.answers] == [True, False, False, True, False]
        assert [answer and answer.request for answer in found.answers] == [
            None if number in {0, 3} else request for number, request in enumerate(requests)
        ]


@pytest.mark.parametrize("change", list(Change))
def test_who_is_barred_is_neither_taken_out_nor_promoted(change: Change) -> None:
    held = first_map(8, members(3), 3, 2)
    row = held.rows[0]
    shard = next(one for one in row.in_sync if one != row.primary)
    request = Request(change, 0, 1, shard, row.in_sync[shard], PROCESS)
    of = state(mapped=True)
    of = type(of)(of.config, of.members, of.alive, map=SlotMap(held.rows, {0: ("s9",)}), map_revision=7)
    if change is Change.ADD:
        request = request._replace(shard="s9")
    found = outcome(of, [request], Believed("too few shards live"))
    barred = change in {Change.REMOVE, Change.PROMOTE}
    assert (found.answers[0] is not None) == barred
    if found.answers[0] is not None:
        assert (found.answers[0].reason, found.answers[0].row) == ("too few shards live", row)
    assert outcome(of, [request]).answers == (None,)


def test_floor_of_a_row_rises_to_what_the_active_members_allow() -> None:
    """Of three members one drains: with two left, one may be away."""
    for wanted, floor in ((Wanted.ACTIVE, 2), (Wanted.DRAINING, 1)):
        of = state(of={**members(2), "s2": member(2, wanted=wanted)})
        conf = of.config.with_copies(3, 2)
        held = SlotMap(first_map(8, members(1)).rows, {0: ("s1",)})
        found = outcome(
            type(of)(conf, of.members, map=held, map_revision=1),
            [Request(Change.ADD, 0, 1, "s1", "a1", PROCESS)],
        )
        assert found.map is not None
        assert found.map.rows[0].min_copies == floor


ROW = SlotRow(5, "s0", {"s0": "a0", "s1": "a1", "s2": "a2"})
OF_THREE = replace(STATE, map=SlotMap((ROW,) * 8, {0: ("s3",)}))
REMOVAL = Request(Change.REMOVE, 0, 5, "s1", "a1", PROCESS)
DOUBTED = REMOVAL._replace(head=OpName(4, 8, b"d" * 16))


@pytest.mark.parametrize("change", list(Change))
def test_what_an_earlier_process_asked_for_is_refused(change: Change) -> None:
    """It may be a removal that was right before the primary's disk lost something."""
    request = REMOVAL._replace(change=change)
    if change is Change.ADD:
        request = request._replace(shard="s3", incarnation="a3")
    assert outcome(OF_THREE, [request]).answers == (None,)
    another = outcome(replace(OF_THREE, alive={**OF_THREE.alive, "s0": "11" * 8}), [request])
    assert (another.map, another.answers[0] and another.answers[0].reason) == (None, "another process is s0 now")


@pytest.mark.parametrize("change", list(Change))
def test_who_is_not_registered_removes_nobody(change: Change) -> None:
    request = REMOVAL._replace(change=change)
    if change is Change.ADD:
        request = request._replace(shard="s3", incarnation="a3")
    unregistered = replace(OF_THREE, alive={"s1": PROCESS, "s2": PROCESS})
    (answer,) = outcome(unregistered, [request]).answers
    assert (answer is not None) == (change is Change.REMOVE)


def told(epoch: int, opnum: int, *, incarnation: str = "a1") -> ShardHealth:
    head = OpName(epoch, opnum, b"e" * 16)
    return ShardHealth({0: CopyHealth(incarnation, complete=True, epoch=5, head=head)})


@pytest.mark.parametrize(
    "look", [told(4, 8), told(4, 7), told(3, 9), told(9, 99, incarnation="b1"), ShardHealth()], ids=str
)
def test_member_that_is_not_ahead_or_has_no_copy_is_removed_at_a_doubted_request(look: ShardHealth) -> None:
    found = outcome(OF_THREE, [DOUBTED], look=look)
    assert found.answers == (None,)
    assert found.map is not None
    assert found.map.rows[0] == SlotRow(6, "s0", {"s0": "a0", "s2": "a2"})


@pytest.mark.parametrize("look", [told(4, 9), told(5, 1)], ids=str)
def test_member_that_is_ahead_is_promoted_at_a_doubted_request(look: ShardHealth) -> None:
    found = outcome(OF_THREE, [DOUBTED, TERMS[1]._replace(epoch=5)], look=look)
    assert found.map is not None
    assert found.map.rows[0] == SlotRow(6, "s1", ROW.in_sync)
    assert found.promoted == 1
    refusal, other = found.answers
    assert refusal is not None
    assert (refusal.row, other) == (found.map.rows[0], None)


def test_member_that_gives_no_answer_stays_until_it_is_dead_or_was_unreachable_for_long() -> None:
    assert outcome(OF_THREE, [DOUBTED]).map is None
    assert outcome(OF_THREE, [DOUBTED], Believed(unreachable={"s1"})).answers == (None,)
    assert outcome(replace(OF_THREE, alive={"s0": PROCESS}), [DOUBTED]).answers == (None,)


def test_member_that_was_unreachable_and_answers_now_is_judged_by_its_answer() -> None:
    found = outcome(OF_THREE, [DOUBTED], Believed(unreachable={"s1"}), told(4, 9))
    assert found.promoted == 1


def test_member_is_not_promoted_instead_while_too_few_live() -> None:
    assert outcome(OF_THREE, [DOUBTED], Believed("too few shards live"), told(4, 9)).map is None


def test_doubted_request_of_an_old_epoch_changes_nothing() -> None:
    assert outcome(OF_THREE, [DOUBTED._replace(epoch=4)], look=told(4, 9)).map is None


async def test_calls_are_answered_each_as_a_whole() -> None:
    waiting = WaitingCalls()
    first, second = waiting.add(TERMS[:2], {}, 1.0), waiting.add(TERMS[2:3], {}, 1.0)
    assert waiting
    assert waiting.take() == [first, second]
    assert not waiting
    first.settle([None, None])
    second.fail(NotController("s0"))
    first.fail(NotController("s0"))  # Too late.
    assert await first.answered() == [None, None]
    with pytest.raises(NotController):
        await second.answered()


async def test_who_does_not_wait_any_more_is_left_out() -> None:
    waiting = WaitingCalls()
    gone, there = waiting.add(TERMS[:2], {}, 1.0), waiting.add(TERMS[2:3], {}, 1.0)
    caller = asyncio.create_task(gone.answered())
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert waiting.take() == [there]
    gone.settle([None, None])


async def test_too_many_are_refused_before_they_are_taken_in() -> None:
    waiting = WaitingCalls(requests_max=8)
    waiting.add(TERMS[:7], {}, 1.0)
    with pytest.raises(Overloaded):
        waiting.add(TERMS[:2], {}, 1.0)
    waiting.add(TERMS[:1], {}, 1.0)
    waiting.take()
    waiting.add(TERMS, {}, 1.0)


async def test_who_waits_for_a_look_takes_room() -> None:
    waiting = WaitingCalls(requests_max=8)
    with waiting.room_for(7), pytest.raises(Overloaded):
        waiting.add(TERMS[:2], {}, 1.0)
    with waiting.room_for(7), pytest.raises(Overloaded), waiting.room_for(2):
        raise AssertionError
    waiting.add(TERMS, {}, 1.0)


async def test_one_transaction_takes_whole_calls_and_at_least_one() -> None:
    waiting = WaitingCalls()
    calls = [waiting.add(TERMS, {}, 1.0) for _ in range(3)]
    assert waiting.take(17) == calls[:2]
    assert waiting.take(3) == calls[2:]
    assert waiting.take() == []


async def test_gathering_ends_with_time_or_when_enough_are_there() -> None:
    waiting = WaitingCalls()
    assert waiting.gather_s(1.0) == 0.0
    waiting.add(TERMS, {}, 1.0)
    assert waiting.gather_s(1.0) == pytest.approx(GATHER_S)
    waiting.add(TERMS, {}, 1.004)
    assert waiting.gather_s(1.004) == pytest.approx(GATHER_S - 0.004)
    assert waiting.gather_s(2.0) == 0.0
    waiting.add(TERMS * (REQUESTS_AT_ONCE // 8), {}, 1.0)
    assert waiting.gather_s(1.0) == 0.0
