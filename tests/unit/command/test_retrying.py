"""When ``tally import`` sends a line again, how soon, and until when."""

from http import HTTPStatus

import pytest

from gateway.problems import problem
from tally.command.importer.retrying import Patience, Verdict, explain, pause_s, verdict_of


def by_gateway(status: int, *, detail: str = "user is too long") -> tuple[int, str, bytes]:
    """Return what a gateway of ours answers."""
    answer = problem(HTTPStatus(status), detail)
    return status, dict(answer.headers)["Content-Type"], answer.body


def test_only_the_refusal_of_a_gateway_is_definite() -> None:
    definite = [status.value for status in HTTPStatus if verdict_of(*by_gateway(status)) is Verdict.REFUSED]
    assert definite == [400, 413, 414, 431]
    _, content_type, body = by_gateway(400)
    assert verdict_of(400, content_type.upper() + "; charset=utf-8", body) is Verdict.REFUSED


@pytest.mark.parametrize("status", range(400, 500))
def test_the_4xx_of_a_proxy_says_nothing_of_the_event(status: int) -> None:
    assert verdict_of(status, "text/html", b"<h1>no backend</h1>") is Verdict.UNKNOWN
    assert verdict_of(status, "application/json", b'{"detail": "no backend"}') is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"type": "about:blank", "title": "Bad Request", "status": 404, "detail": "x"}',
        b'{"type": "about:blank", "title": "Bad Request", "status": 400}',
        b'{"type": "https://proxy/errors/1", "title": "Bad Request", "status": 400, "detail": "x"}',
        b'{"type": "about:blank", "title": "Bad thing", "status": 400, "detail": "x"}',
        b'{"type": "about:blank", "title": "Bad Request", "status": 400, "detail": 7}',
    ],
)
def test_the_problem_of_another_program_says_nothing_of_the_event(body: bytes) -> None:
    assert verdict_of(400, by_gateway(400)[1], body) is Verdict.UNKNOWN


def test_a_gateway_s_document_with_another_content_type_says_nothing() -> None:
    assert verdict_of(400, "text/plain", by_gateway(400)[2]) is Verdict.UNKNOWN


@pytest.mark.parametrize("status", [100, 200, 202, 301, 302, 408, 425, 429, 500, 502, 503, 504, 599, 600])
def test_what_says_nothing_of_the_event_leaves_it_unknown(status: int) -> None:
    assert verdict_of(status) is Verdict.UNKNOWN


REASONS = [
    (Verdict.REFUSED, 400, b'{"title": "x", "detail": "user must not be empty"}', "user must not be empty"),
    (Verdict.UNKNOWN, 404, b"<html>", "404 from what is no gateway"),
    (Verdict.UNKNOWN, 403, b'{"detail": "who are you?"}', "403, who are you?"),
    (Verdict.UNKNOWN, 503, b'{"detail": "no primary"}', "503, no primary"),
    (Verdict.UNKNOWN, 502, b"[]", "502, no reason given"),
    (Verdict.UNKNOWN, 200, b"", "200, no reason given"),
    (Verdict.REFUSED, 400, b'{"detail": "\\u001b[31mred\\n"}', r"\x1b[31mred\n"),
    (Verdict.REFUSED, 400, b'{"detail": "\\u202ered"}', r"\u202ered"),
]


@pytest.mark.parametrize(("verdict", "status", "body", "reason"), REASONS)
def test_a_refusal_is_told_in_the_words_of_the_gateway(verdict: Verdict, status: int, body: bytes, reason: str) -> None:
    assert explain(verdict, status, body) == reason


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
