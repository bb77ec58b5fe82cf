"""The open loop: when requests leave, and what is told of them."""

import pytest

from bench.load.schedule import FAILED, GOOD, REFUSED, Schedule, Second, Stage, recovered_after_s


def taken(schedule: Schedule) -> list[tuple[int, float]]:
    found = []
    while schedule.next_s is not None:
        found.append(schedule.take())
    return found


def test_requests_are_evenly_spread_over_their_stages() -> None:
    found = taken(Schedule([Stage(4, 1), Stage(2, 1.5)]))
    assert found == [(0, 0.0), (0, 0.25), (0, 0.5), (0, 0.75), (1, 1.0), (1, 1.5), (1, 2.0)]


def test_time_counts_from_when_a_request_was_to_leave() -> None:
    """A stall of a second is told by all requests that came meanwhile, not by one."""
    schedule = Schedule([Stage(10, 1)])
    for stage, due in taken(schedule):
        schedule.left(stage, due, 1.0)
        schedule.ended(stage, due, 1.0, 1.0, GOOD)
    (outcome,) = schedule.outcomes()
    assert outcome.p50_ms == pytest.approx(500)
    assert outcome.p99_ms == pytest.approx(1000)
    assert outcome.lag_p99_ms == pytest.approx(1000)


def test_every_request_ends_in_one_way() -> None:
    schedule = Schedule([Stage(5, 1), Stage(1, 1)])
    ways = [GOOD, REFUSED, FAILED, GOOD]
    for (stage, due), how in zip(taken(schedule), ways, strict=False):
        schedule.left(stage, due, due)
        schedule.ended(stage, due, due + 0.25, due + 0.5, how)
    schedule.unsent(0)
    first, second = schedule.outcomes()
    assert (first.due, first.good, first.refused, first.failed, first.unsent) == (5, 2, 1, 1, 1)
    assert first.refusal_p99_ms == pytest.approx(500)
    assert first.refusal_sent_p99_ms == pytest.approx(250)
    assert second.due == 1


def test_goodput_is_of_answers_that_come_while_the_stage_lasts() -> None:
    schedule = Schedule([Stage(2, 1), Stage(1, 1)])
    for stage, due in taken(schedule):
        schedule.ended(stage, due, due, due + 0.75, GOOD)  # The second of the first stage comes in the second one.
    first, second = schedule.outcomes()
    assert first.goodput_per_s == pytest.approx(1)
    assert second.goodput_per_s == pytest.approx(2)
    assert first.seconds == [Second(2, 2, 750.0)]


@pytest.mark.parametrize(
    ("seconds", "after_s"),
    [
        ([Second(100, 100, 10)], 0.0),
        ([Second(100, 50, 10), Second(100, 100, 10)], 1.0),
        ([Second(100, 100, 10), Second(100, 100, 900), Second(100, 99, 10)], 2.0),
        ([Second(100, 100, 10), Second(100, 98, 10)], None),
    ],
)
def test_recovered_is_well_for_good(seconds: list[Second], after_s: float | None) -> None:
    assert recovered_after_s(seconds, good_share=0.99, p99_ms=100) == after_s
