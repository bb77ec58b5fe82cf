"""The file in which a shard's client leaves what its own process was counting."""

from pathlib import Path

import pytest

from tally.client import last_words
from tally.client.blame import Blame, Own
from tally.client.last_words import LastWord, LastWords
from tally.client.outbox import SubBatch, Waiting
from tally.client.suspects import ASIDE_S, name_of
from tally.errors import SetAside
from tally.event import Event
from tests.support.events import click

ONE = LastWord((b"a" * 16,), last=False, suspected=True)
TWO = LastWord((b"a" * 16, b"b" * 16), last=True, suspected=False)


def test_what_is_struck_out_is_not_left_over(tmp_path: Path) -> None:
    words = LastWords(tmp_path / "words")
    words.note(1, ONE)
    words.note(2, TWO)
    words.strike_out(1)
    words.strike_out(1)
    assert LastWords(tmp_path / "words").found == [TWO]
    assert LastWords(tmp_path / "words").found == []


def test_what_is_noted_anew_is_there_once(tmp_path: Path) -> None:
    words = LastWords(tmp_path / "words")
    for last in (False, True, True):
        words.note(1, ONE._replace(last=last))
    assert LastWords(tmp_path / "words").found == [ONE._replace(last=True)]


def test_process_that_ends_in_order_leaves_nothing(tmp_path: Path) -> None:
    words = LastWords(tmp_path / "words")
    words.note(1, ONE)
    words.close()
    assert LastWords(tmp_path / "words").found == []


def test_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_words, "FILE_BYTES_MAX", 1000)
    words = LastWords(tmp_path / "words")
    words.note(0, TWO)
    for batch in range(1, 500):
        words.note(batch, ONE)
        words.strike_out(batch)
        assert (tmp_path / "words").stat().st_size <= 1000
    assert LastWords(tmp_path / "words").found == [TWO]


def test_directory_that_can_not_be_written_is_no_reason_to_fail(tmp_path: Path) -> None:
    words = LastWords(tmp_path / "missing" / "words")
    words.note(1, ONE)
    words.strike_out(1)
    words.close()
    assert words.found == []


def sub_batch(*events: Event) -> SubBatch[None]:
    return SubBatch(1, b"w" * 16, 1, 0, 0, tuple(Waiting(event, 0.0, None) for event in events))


def blame_after(path: Path) -> Blame:
    """Return what a process knows that starts with the last words of the one before."""
    blame = Blame(Own("s1", LastWords(path)))
    blame.start(0.0)
    return blame


def test_shard_that_dies_of_events_that_came_through_itself_sets_the_culprit_aside(tmp_path: Path) -> None:
    """However often it dies: each process knows what the one before it knew of the event."""
    path, ann, bob = tmp_path / "words", click("ann"), click("bob")
    blame = blame_after(path)
    blame.sent(sub_batch(ann, bob), "s2")
    assert not blame_after(path).suspects, "another shard was to count them"
    blame.sent(sub_batch(ann, bob), "s1")
    blame = blame_after(path)
    assert not blame.suspects, "it may have been killed"
    blame.sent(sub_batch(bob, ann), "s1")
    blame = blame_after(path)
    assert blame.suspects.alone(ann)
    assert blame.suspects.alone(bob)
    blame.suspects.check([ann, bob])
    blame.sent(sub_batch(ann), "s1")
    blame = blame_after(path)
    with pytest.raises(SetAside) as raised:
        blame.suspects.check([ann])
    assert raised.value.for_s == ASIDE_S
    assert name_of(ann).hex() not in str(raised.value)


def test_event_that_was_answered_leaves_no_suspicion(tmp_path: Path) -> None:
    path, batch = tmp_path / "words", sub_batch(click("ann"))
    blame = blame_after(path)
    blame.sent(batch, "s1")
    blame.over(batch, answered=True)
    assert not blame_after(path).suspects
