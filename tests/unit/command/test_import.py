"""What ``tally import`` says, apart from sending."""

import os
import signal
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tally.command.importer.keys import Again
from tally.command.importer.progress import Reporter
from tally.command.importer.sending import Outcome
from tally.command.importer.summary import exit_status, summary

KNOWN = Again(prefix="d1")
PIPE = Again(prefix="r1", is_known=False)
STOPPED = Outcome(unsent_from=17, halted="SIGINT")


def test_the_summary_has_numbers_and_speed() -> None:
    outcome = Outcome(counted=12_000, refused=3, unknown=1)
    said = summary(outcome, KNOWN, 2.0).splitlines()[0]
    assert said == "12,000 counted, 3 refused, 1 unknown in 2.0 s (6,000 events/s)"


def test_the_summary_of_a_whole_import_is_one_line() -> None:
    assert len(summary(Outcome(counted=5, refused=3), KNOWN, 2.0).splitlines()) == 1
    assert len(summary(Outcome(counted=5), PIPE, 2.0).splitlines()) == 1


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (STOPPED, "stopped (SIGINT): nothing was sent from line 17 on"),
        (Outcome(halted="SIGTERM"), "stopped (SIGTERM), but all was sent"),
        (Outcome(unknown=2, halted="SIGTERM"), "stopped (SIGTERM), but all was sent"),
    ],
)
def test_the_summary_of_an_import_that_was_stopped_says_what_was_not_sent(outcome: Outcome, said: str) -> None:
    assert summary(outcome, KNOWN, 2.0).splitlines()[1] == said


@pytest.mark.parametrize(
    ("outcome", "again", "said"),
    [
        (STOPPED, KNOWN, "the same command within 24 hours counts the rest, and nothing twice"),
        (
            Outcome(unknown=2, halted="SIGTERM"),
            KNOWN,
            "the same command within 24 hours counts the rest, and nothing twice",
        ),
        (
            STOPPED,
            PIPE,
            "the same lines with --key-prefix r1 within 24 hours: the rest is counted, and nothing twice",
        ),
        (
            Outcome(counted=5, refused=1),
            Again(prefix="a'b", damaged=True),
            (
                "import it with --key-prefix 'a'\"'\"'b' within 24 hours when it is mended: "
                "then only what was not counted yet is counted"
            ),
        ),
        (
            Outcome(counted=5),
            Again(prefix="d1", changed=True),
            (
                "the file changed meanwhile: imported again it is another one, and all of it is counted again; "
                "with --key-prefix d1 within 24 hours, only what was not counted yet"
            ),
        ),
    ],
)
def test_the_summary_says_how_the_rest_is_imported_without_counting_twice(
    outcome: Outcome, again: Again, said: str
) -> None:
    assert summary(outcome, again, 2.0).splitlines()[-1] == said


def test_the_summary_of_an_import_that_was_stopped_when_all_was_answered_asks_for_nothing() -> None:
    said = summary(Outcome(counted=5, halted="SIGINT"), PIPE, 2.0)
    assert said.splitlines()[1:] == ["stopped (SIGINT), but all was sent"]


@pytest.mark.parametrize(
    ("outcome", "again", "asked", "status"),
    [
        (Outcome(counted=5), KNOWN, None, 0),
        (Outcome(counted=5), PIPE, None, 0),
        (Outcome(counted=5, refused=1), KNOWN, None, 1),
        (Outcome(counted=5, unknown=1), KNOWN, None, 1),
        (Outcome(counted=5), Again(prefix="d1", changed=True), None, 1),
        (Outcome(counted=5, unsent_from=7, halted="no gateway"), KNOWN, None, 1),
        (Outcome(counted=5, halted="SIGINT"), KNOWN, signal.SIGINT, 130),
        (Outcome(refused=5, halted="SIGTERM"), KNOWN, signal.SIGTERM, 143),
    ],
)
def test_the_exit_status_says_how_it_went(
    outcome: Outcome, again: Again, asked: signal.Signals | None, status: int
) -> None:
    assert exit_status(outcome, again, asked) == status


def report(size: int | None) -> tuple[Reporter, StringIO]:
    page = StringIO()
    return Reporter(Console(file=page), size), page


def test_without_a_terminal_every_tenth_is_one_line() -> None:
    reporter, page = report(1000)
    with reporter:
        for position in (50, 101, 150, 430, 1000):
            reporter.advance(position, Outcome(position * 10, 1, sent_again=2))
    assert page.getvalue().splitlines() == [
        "imported 1,010 (10 %), 1 refused, 2 being sent again",
        "imported 4,300 (40 %), 1 refused, 2 being sent again",
    ]


def test_what_was_read_and_not_yet_counted_is_no_progress() -> None:
    reporter, page = report(1000)
    with reporter:
        reporter.advance(600, Outcome())
        reporter.advance(1000, Outcome(3))
    assert page.getvalue() == ""


def test_a_stderr_that_takes_nothing_stops_nothing_and_is_remembered() -> None:
    with Path("/dev/full").open("w", buffering=1) as full:
        reporter = Reporter(Console(file=full), None)
        reporter.complain(1, "no")
        assert reporter.failed == "No space left on device"
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # What is left in its buffer goes there.


def test_without_a_size_every_fifty_thousandth_is_one_line() -> None:
    reporter, page = report(None)
    with reporter:
        for done in (1, 50_001, 99_999, 100_000):
            reporter.advance(done, Outcome(done))
    assert page.getvalue().splitlines() == [
        "imported 50,001, 0 refused, 0 being sent again",
        "imported 100,000, 0 refused, 0 being sent again",
    ]


def test_every_failure_is_shown() -> None:
    reporter, page = report(None)
    with reporter:
        for line in range(1500):
            reporter.complain(line, "[bold]no")
    lines = page.getvalue().splitlines()
    assert len(lines) == 1500
    assert lines[0] == "line 0: [bold]no"
