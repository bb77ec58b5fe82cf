"""Percentiles, and how two systems are compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import Figures, Spread, by_system, cpu_ratio, medians, percentile


def run(cpu_us: float, *, failure: str | None = None) -> Figures:
    return Figures(1000.0, cpu_us, 1.0, 2.0, 3.0, 0.0, failure)


@pytest.mark.parametrize(("share", "value"), [(0.01, 1), (0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100)])
def test_percentile_of_one_to_a_hundred_is_its_number(share: float, value: int) -> None:
    assert percentile(range(1, 101), share) == value


def test_percentile_of_nothing_is_nothing() -> None:
    assert percentile([], 0.99) == 0.0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.001, 1.0))
def test_percentile_is_not_exceeded_by_its_share(values: list[float], share: float) -> None:
    found = percentile(sorted(values), share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6


def test_ratio_is_of_rounds_and_not_of_medians() -> None:
    """A noisy second round disturbs both: their ratio stays what it is."""
    ours, theirs = [run(50), run(500), run(60)], [run(100), run(1000), run(100)]
    assert cpu_ratio(ours, theirs) == Spread(0.5, 0.5, 0.6)


def test_round_that_failed_on_one_side_counts_on_neither() -> None:
    ours, theirs = [run(50), run(1, failure="3 refused")], [run(100), run(100)]
    assert cpu_ratio(ours, theirs) == Spread(0.5, 0.5, 0.5)
    assert medians(ours) == run(50)


def test_nothing_is_told_when_every_round_failed() -> None:
    failed = [run(1, failure="nothing was answered")]
    assert cpu_ratio(failed, [run(1)]) is None
    assert medians(failed) is None


def test_rounds_turn_into_systems() -> None:
    rounds = [{"a": run(1), "b": run(2)}, {"a": run(3), "b": run(4)}]
    assert by_system(rounds) == {"a": [run(1), run(3)], "b": [run(2), run(4)]}
    assert by_system([]) == {}
