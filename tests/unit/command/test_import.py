"""What ``tally import`` says, apart from sending."""

from io import StringIO

import pytest
from rich.console import Console

from tally.command.import_file import summary
from tally.command.progress import COMPLAINTS_MAX, Reporter
from tally.command.sending import Outcome, explain

REASONS = [
    (400, b'{"title": "x", "detail": "user must not be empty"}', "user must not be empty"),
    (400, b"<html>", "refused: 400"),
    (503, b'{"detail": "no primary"}', "not acknowledged: 503, no primary"),
    (502, b"[]", "not acknowledged: 502, no reason given"),
    (200, b"", "not acknowledged: 200, no reason given"),
    (400, b'{"detail": "\\u001b[31mred\\n"}', "?[31mred?"),
]


@pytest.mark.parametrize(("status", "body", "reason"), REASONS)
def test_a_refusal_is_told_in_the_words_of_the_gateway(status: int, body: bytes, reason: str) -> None:
    assert explain(status, body) == reason


def test_the_summary_has_numbers_and_speed() -> None:
    assert summary(Outcome(12_000, 3), 2.0) == "12,000 counted, 3 failed in 2.0 s (6,000 events/s)"


def report(size: int | None) -> tuple[Reporter, StringIO]:
    page = StringIO()
    return Reporter(Console(file=page), size), page


def test_without_a_terminal_every_tenth_is_one_line() -> None:
    reporter, page = report(1000)
    with reporter:
        for position in (50, 101, 150, 430, 1000):
            reporter.advance(position, Outcome(position * 10, 1))
    assert page.getvalue().splitlines() == [
        "imported 1,010 (10 %), 1 failed",
        "imported 4,300 (40 %), 1 failed",
        "imported 10,000 (100 %), 1 failed",
    ]


def test_without_a_size_every_fifty_thousandth_is_one_line() -> None:
    reporter, page = report(None)
    with reporter:
        for done in (1, 50_001, 99_999, 100_000):
            reporter.advance(done, Outcome(done))
    assert page.getvalue().splitlines() == ["imported 50,001, 0 failed", "imported 100,000, 0 failed"]


def test_only_the_first_hundred_failures_are_shown() -> None:
    reporter, page = report(None)
    with reporter:
        for line in range(COMPLAINTS_MAX + 1500):
            reporter.complain(line, "[bold]no")
    lines = page.getvalue().splitlines()
    assert len(lines) == COMPLAINTS_MAX + 1
    assert lines[0] == "line 0: [bold]no"
    assert lines[-1] == "... and 1,500 more"
