"""The line in the log that must not fill it."""

from gateway.timing import AtMostOncePer


def test_one_passes_per_period_and_tells_of_those_held_back() -> None:
    warning = AtMostOncePer(60)
    assert [warning.passes(now) for now in (0, 1, 59.9, 60, 61, 200)] == [1, 0, 0, 3, 0, 2]
