"""What a system counts is held against what it acknowledged."""

import pytest

from bench.counts import Counts, complaint, parse_counts, together
from bench.errors import LoadFailed
from bench.workloads import GET_PAST, MIX, POST

BEFORE = Counts(unique_users=10, clicks=20, impressions=30)


def test_answer_is_three_lines() -> None:
    assert parse_counts("unique_users,1\nclicks,2\nimpressions,3\n") == Counts(1, 2, 3)


@pytest.mark.parametrize("body", ["", "unique_users,1\nclicks,2\n", "unique_users,x\nclicks,2\nimpressions,3\n"])
def test_anything_else_is_none(body: str) -> None:
    with pytest.raises(LoadFailed):
        parse_counts(body)


@pytest.mark.parametrize("counted", [100, 105, 110])
def test_what_was_not_answered_may_be_counted_or_not(counted: int) -> None:
    after = Counts(10 + counted, 20 + counted, 30)
    assert complaint(BEFORE, after, acknowledged=100, sent=110, users_are_new=True) is None


@pytest.mark.parametrize("counted", [99, 111])
def test_lost_and_invented_events_are_complained_of(counted: int) -> None:
    after = Counts(10 + counted, 20, 30 + counted)
    found = complaint(BEFORE, after, acknowledged=100, sent=110, users_are_new=True)
    assert found == f"{counted} events counted, 100 acknowledged, 110 sent"


def test_users_that_are_not_exact_are_complained_of() -> None:
    after = Counts(10 + 99, 20 + 100, 30)
    assert complaint(BEFORE, after, acknowledged=100, sent=100, users_are_new=True) is not None
    assert complaint(BEFORE, after, acknowledged=100, sent=100, users_are_new=False) is None


def test_hours_add_up() -> None:
    assert together([Counts(1, 2, 3), Counts(10, 20, 30)]) == Counts(11, 22, 33)
    assert together([]) == Counts(0, 0, 0)


def test_hours_to_check_are_those_that_get_events() -> None:
    assert POST.hours(1000) == [1000]
    assert GET_PAST.hours(1000) == [1000]
    hours = MIX.hours(100_000)
    assert len(hours) == 1 + MIX.past_hours
    assert hours[:2] == [100_000, 100_000 - MIX.past_step_h]
