"""Goals are met, missed by so much, or not measured."""

import pytest

from bench.figures import Spread
from bench.goals import GOALS, Goal, number, rows, verdict

AT_MOST = Goal("a", "a", 2.0)
AT_LEAST = Goal("b", "b", 0.75, at_least=True)


@pytest.mark.parametrize(
    ("goal", "value", "said"),
    [
        (AT_MOST, 1.9, "met"),
        (AT_MOST, 2.0, "met"),
        (AT_MOST, 3.0, "missed by 50 %"),
        (AT_LEAST, 0.75, "met"),
        (AT_LEAST, 0.6, "missed by 20 %"),
    ],
)
def test_verdict_is_about_the_median(goal: Goal, value: float, said: str) -> None:
    assert verdict(goal, Spread(value, 0.0, 100.0)) == said


def test_every_goal_has_a_row_measured_or_not() -> None:
    found = rows({"copies": Spread(2.0, 1.9, 2.5), "latency/p99": Spread(12.34, 12.34, 12.34)})
    by_title = {row[0]: row[1:] for row in found}
    assert len(by_title) == len(GOALS)
    (copies,) = [goal for goal in GOALS if goal.name == "copies"]
    assert by_title[copies.title] == ("at most 2.20", "2.00", "1.90 … 2.50", "met")
    (latency,) = [goal for goal in GOALS if goal.name == "latency/p99"]
    assert by_title[latency.title] == ("at most 20.0 ms", "12.3 ms", "", "met")
    (bulk,) = [goal for goal in GOALS if goal.name == "bulk"]
    assert by_title[bulk.title] == ("at most 1.00", "–", "", "not measured")


def test_numbers_have_three_digits() -> None:
    assert [number(value) for value in (0.123, 1.234, 12.34, 123.4, 12345.6)] == [
        "0.12",
        "1.23",
        "12.3",
        "123",
        "12,346",
    ]
    assert number(5, "ms") == "5.00 ms"
