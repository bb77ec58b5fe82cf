"""What one transaction makes of the requests of primaries, and who waits for it."""

import asyncio

import pytest

from tally.cluster.controller.row_requests import GATHER_S, REQUESTS_AT_ONCE, WaitingCalls, outcome_of
from tally.cluster.members import Wanted
from tally.cluster.planning.placement import first_map
from tally.cluster.rows import Change, Request
from tally.cluster.slot_map import SlotMap
from tally.errors import NotController, Overloaded
from tests.support.cluster_values import PROCESS, member, members, state

STATE = state(mapped=True)
TERMS = [Request(Change.TERM, slot, 1, "s0", "", PROCESS) for slot in range(8)]


def test_without_a_map_all_are_refused() -> None:
    found = outcome_of(state(), TERMS, barred="")
    assert found.map is None
    assert [answer is not None and answer.row for answer in found.answers] == [None] * 8


def test_what_is_refused_needs_no_write() -> None:
    found = outcome_of(STATE, [TERMS[0]._replace(epoch=7)], barred="")
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
        found = outcome_of(STATE, requests, barred=barred)
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
    found = outcome_of(of, [request], barred="too few shards live")
    barred = change in {Change.REMOVE, Change.PROMOTE}
    assert (found.answers[0] is not None) == barred
    if found.answers[0] is not None:
        assert (found.answers[0].reason, found.answers[0].row) == ("too few shards live", row)
    assert outcome_of(of, [request], barred="").answers == (None,)


def test_floor_of_a_row_rises_to_what_the_active_members_allow() -> None:
    """Of three members one drains: with two left, one may be away."""
    for wanted, floor in ((Wanted.ACTIVE, 2), (Wanted.DRAINING, 1)):
        of = state(of={**members(2), "s2": member(2, wanted=wanted)})
        conf = of.config.with_copies(3, 2)
        held = SlotMap(first_map(8, members(1)).rows, {0: ("s1",)})
        found = outcome_of(
            type(of)(conf, of.members, map=held, map_revision=1),
            [Request(Change.ADD, 0, 1, "s1", "a1", PROCESS)],
            barred="",
        )
        assert found.map is not None
        assert found.map.rows[0].min_copies == floor


async def test_calls_are_answered_each_as_a_whole() -> None:
    waiting = WaitingCalls()
    first, second = waiting.add(TERMS[:2], 1.0), waiting.add(TERMS[2:3], 1.0)
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
    gone, there = waiting.add(TERMS[:2], 1.0), waiting.add(TERMS[2:3], 1.0)
    caller = asyncio.create_task(gone.answered())
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert waiting.take() == [there]
    gone.settle([None, None])


async def test_too_many_are_refused_before_they_are_taken_in() -> None:
    waiting = WaitingCalls(requests_max=8)
    waiting.add(TERMS[:7], 1.0)
    with pytest.raises(Overloaded):
        waiting.add(TERMS[:2], 1.0)
    waiting.add(TERMS[:1], 1.0)
    waiting.take()
    waiting.add(TERMS, 1.0)


async def test_one_transaction_takes_whole_calls_and_at_least_one() -> None:
    waiting = WaitingCalls()
    calls = [waiting.add(TERMS, 1.0) for _ in range(3)]
    assert waiting.take(17) == calls[:2]
    assert waiting.take(3) == calls[2:]
    assert waiting.take() == []


async def test_gathering_ends_with_time_or_when_enough_are_there() -> None:
    waiting = WaitingCalls()
    assert waiting.gather_s(1.0) == 0.0
    waiting.add(TERMS, 1.0)
    assert waiting.gather_s(1.0) == pytest.approx(GATHER_S)
    waiting.add(TERMS, 1.004)
    assert waiting.gather_s(1.004) == pytest.approx(GATHER_S - 0.004)
    assert waiting.gather_s(2.0) == 0.0
    waiting.add(TERMS * (REQUESTS_AT_ONCE // 8), 1.0)
    assert waiting.gather_s(1.0) == 0.0
