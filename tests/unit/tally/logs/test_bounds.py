"""How often an event may be logged."""

from tally.logs.bounds import NAMES_MAX, Bounds, Rate

RATE = Rate(burst=3, every_s=10.0)


def test_burst_passes_and_then_one_per_period_that_tells_what_was_held_back() -> None:
    bounds = Bounds()
    found = [bounds.admit("request_refused", now, RATE) for now in (0, 0, 0, 0, 5, 10, 11, 12, 20)]
    assert found == [0, 0, 0, None, None, 2, None, None, 2]
    assert bounds.held_back == 4


def test_events_have_rates_of_their_own() -> None:
    bounds = Bounds()
    assert [bounds.admit("noisy", 0, RATE) for _ in range(4)][-1] is None
    assert bounds.admit("rare", 0, RATE) == 0


def test_quiet_event_gets_its_burst_back_and_no_more() -> None:
    bounds = Bounds()
    for _ in range(3):
        bounds.admit("a", 0, RATE)
    assert [bounds.admit("a", 1000, RATE) for _ in range(4)] == [0, 0, 0, None]


def test_what_was_held_back_is_due_when_the_event_may_be_logged_again() -> None:
    bounds = Bounds()
    for _ in range(5):
        bounds.admit("a", 0, RATE)
    assert bounds.due(9) == {}
    assert bounds.due(10) == {"a": 2}
    assert bounds.due(100) == {}
    for _ in range(7):
        bounds.admit("a", 100, RATE)
    assert bounds.due(100, at_once=True) == {"a": 4}


def test_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    bounds = Bounds()
    assert [bounds.admit("a", now, RATE) for now in (50, 40, 30, 20)] == [0, 0, 0, None]


def test_endless_names_share_one_rate() -> None:
    bounds = Bounds()
    passed = sum(bounds.admit(f"name {number}", 0, RATE) is not None for number in range(NAMES_MAX + 100))
    assert passed == NAMES_MAX + RATE.burst
