"""When ``tally import`` sends a line again, how soon, and until when."""

import pytest

from tally.command.importer.retrying import Patience, Verdict, pause_s, verdict_of


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 414, 431, 499])
def test_a_refusal_is_definite(status: int) -> None:
    assert verdict_of(status) is Verdict.REFUSED


@pytest.mark.parametrize("status", [100, 200, 202, 301, 302, 408, 425, 429, 500, 502, 503, 504, 599, 600])
def test_what_says_nothing_of_the_event_leaves_it_unknown(status: int) -> None:
    assert verdict_of(status) is Verdict.UNKNOWN


def test_only_204_is_counted() -> None:
    assert [status for status in range(100, 1000) if verdict_of(status) is Verdict.COUNTED] == [204]


def test_pauses_double_up_to_two_seconds_and_stay_there() -> None:
    longest = [pause_s(attempts, None, 1.0) for attempts in (1, 2, 3, 4, 5, 6, 7, 1_000_000)]
    assert longest == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0])
    assert [pause_s(attempts, None, 0.0) for attempts in (1, 9)] == pytest.approx([0.05, 1.0])


def test_a_gateway_that_says_when_to_come_again_is_obeyed_and_nobody_comes_at_once() -> None:
    assert pause_s(1, "3", 0.0) > 3
    assert pause_s(1, "3", 0.0) != pause_s(1, "3", 0.5)


@pytest.mark.parametrize("value", ["", "-1", "1.5", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "\u0663", "inf"])
def test_a_retry_after_that_is_no_number_of_seconds_is_passed_over(value: str) -> None:
    assert pause_s(1, value, 0.0) == pause_s(1, None, 0.0)


@pytest.mark.parametrize("value", ["3600", "9" * 5000])
def test_no_gateway_can_ask_for_hours(value: str) -> None:
    assert pause_s(1, value, 0.0) < 60


def test_a_failure_among_answers_is_not_worth_a_word() -> None:
    patience = Patience(600)
    for now in range(1000):
        assert patience.failed(float(now), "503") == ""
        assert patience.answered() == ""


def test_a_gateway_that_is_away_is_told_once_and_so_is_its_return() -> None:
    patience = Patience(600)
    said = [patience.failed(now / 10, "Connection refused") for now in range(5000)]
    assert [text for text in said if text] == [
        "nothing is counted at the moment (Connection refused); sending again, for up to 600 s"
    ]
    assert [patience.answered(), patience.answered()] == ["counting again", ""]


def test_patience_ends_when_no_line_was_answered_for_so_long() -> None:
    patience = Patience(10)
    patience.failed(100.0, "503")
    patience.failed(109.0, "503")
    assert not patience.is_over(109.9)
    assert patience.is_over(110.0)


def test_one_answer_makes_patience_new() -> None:
    patience = Patience(10)
    patience.failed(100.0, "503")
    patience.answered()
    patience.failed(111.0, "503")
    assert not patience.is_over(120.0)
    assert patience.is_over(121.0)


def test_a_pipe_that_has_nothing_to_give_uses_up_no_patience() -> None:
    patience = Patience(10)
    patience.failed(100.0, "503")
    patience.answered()
    assert not patience.is_over(1_000_000.0)
