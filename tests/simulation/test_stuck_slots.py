"""A slot whose op or round does not come to its end, on the real core: who waits for it is told to come again.

Each gateway sends again what is not answered after 2 s. Were the earlier attempts kept, they would pile up, and fill
the queue and the streams that other slots use too.
"""

from typing import Final

from protos.tally.internal.v1 import node_pb2
from shard.replica.rounds import WAIT_MAX_S
from shard.replica.term import SILENT_S
from shard.replica.words import Answer, Ask, Commit, Confirm, Forward, Refuse, Tell, Verdict
from tally.cluster.rows import Change
from tests.simulation.by_hand import ByHand
from tests.simulation.test_schedules import pair, with_joiner

NOT_READY: Final = node_pb2.OUTCOME_NOT_READY
SOON_S: Final = 0.1


def refused(primary: ByHand) -> list[str]:
    """Return, and forget, who was refused."""
    refusals = primary.take(Refuse)
    assert all(act.outcome == NOT_READY for act in refusals)
    return [token for act in refusals for token in act.tokens]


def test_who_waits_behind_an_op_that_does_not_end_is_refused_after_a_while() -> None:
    primary, _ = pair()
    primary.submit("X")
    primary.submit("Y")
    primary.tick(WAIT_MAX_S - SOON_S)
    assert refused(primary) == []
    primary.tick(2 * SOON_S)
    assert refused(primary) == ["Y"]
    primary.submit("Y")
    assert refused(primary) == ["Y"]


def test_op_under_way_is_kept_and_committed_however_late_it_is_acknowledged() -> None:
    primary, backup = pair()
    primary.submit("X")
    [(call, forward)] = primary.calls("B", Forward)
    primary.submit("X")  # The next attempt of the same sub-batch.
    primary.tick(WAIT_MAX_S + SOON_S)
    assert refused(primary) == ["X"]
    assert not primary.take(Commit)
    primary.hear_answer("B", call, backup.hear("P", forward))
    assert len(primary.take(Commit)) == 1
    primary.submit("Y")
    assert refused(primary) == []


def test_readers_that_no_round_confirms_are_refused_after_a_while() -> None:
    primary, _ = pair()
    primary.do(primary.replica.read, "first")
    primary.tick(WAIT_MAX_S - SOON_S)
    primary.do(primary.replica.read, "second")
    assert refused(primary) == []
    primary.tick(2 * SOON_S)
    assert sorted(refused(primary)) == ["first", "second"]
    assert not primary.take(Tell)


def test_readers_are_refused_although_each_round_fails_and_is_begun_again() -> None:
    primary, _ = pair()
    primary.do(primary.replica.read, "reader")
    for _ in range(int(WAIT_MAX_S / 0.5) + 1):
        for call, _ in primary.calls("B", Confirm):
            primary.do(primary.replica.failed, "B", call, refused=False)
        primary.tick(0.5)
    assert refused(primary) == ["reader"]


def test_removal_is_asked_for_while_the_backup_is_silent_and_no_longer() -> None:
    """The request may wait for a way to the controller: when there is one, the backup is perhaps well again."""
    primary, backup = pair()
    primary.submit("X")
    [(call, forward)] = primary.calls("B", Forward)
    primary.tick(SILENT_S + SOON_S)
    assert primary.asked(Change.REMOVE)
    primary.tick(1.0)
    assert primary.asked(Change.REMOVE)
    primary.hear_answer("B", call, backup.hear("P", forward))
    for _ in range(10):
        primary.tick(1.0)
    assert not primary.asked(Change.REMOVE)
    assert primary.replica.term is not None
    assert primary.replica.term.quiet


def test_addition_is_asked_for_again_when_the_joiner_is_silent_no_more() -> None:
    """It stays required: without its addition nothing would ever change that."""
    primary, joiner = with_joiner()
    primary.submit("X")
    [(call, forward)] = primary.calls("J", Forward)
    primary.tick(SILENT_S + SOON_S)
    assert primary.asked(Change.TERM)
    primary.hear_answer("J", call, joiner.hear("P", forward))
    primary.take(Ask)
    primary.tick(1.0)
    assert set(primary.take(Ask)) == {Ask(Change.ADD, 1, "J", joiner.durable.incarnation)}


def test_removal_is_not_asked_for_when_a_round_failed_and_nobody_reads_any_more() -> None:
    primary, _ = pair()
    primary.do(primary.replica.read, "reader")
    while not primary.asked(Change.REMOVE):
        for call, _ in primary.calls("B", Confirm):
            primary.do(primary.replica.failed, "B", call, refused=False)
        primary.tick(0.2)
    primary.tick(WAIT_MAX_S)
    assert refused(primary) == ["reader"]
    primary.asked(Change.REMOVE)
    primary.tick(5.0)
    assert not primary.asked(Change.REMOVE)


def test_removal_of_a_copy_that_is_none_is_asked_for_until_the_row_changes() -> None:
    primary, _ = pair()
    primary.submit("X")
    [(call, _)] = primary.calls("B", Forward)
    primary.hear_answer("B", call, Answer(Verdict.NO_COPY, 1))
    for _ in range(10):
        primary.tick(1.0)
        assert primary.asked(Change.REMOVE)
        for again, _ in primary.calls("B", Forward):
            primary.do(primary.replica.failed, "B", again, refused=False)


def test_late_answer_to_a_round_that_was_given_up_tells_nobody() -> None:
    primary, backup = pair()
    primary.do(primary.replica.read, "early")
    [(early, confirm)] = primary.calls("B", Confirm)
    primary.tick(WAIT_MAX_S + SOON_S)
    primary.take(Refuse)
    primary.do(primary.replica.read, "late")
    [(late, again)] = primary.calls("B", Confirm)
    primary.hear_answer("B", early, backup.hear("P", confirm))
    assert not primary.take(Tell)
    primary.hear_answer("B", late, backup.hear("P", again))
    assert [act.tokens for act in primary.take(Tell)] == [("late",)]


def test_readers_that_are_confirmed_one_round_after_the_other_are_never_refused() -> None:
    primary, backup = pair()
    primary.do(primary.replica.read, 0)
    for number in range(1, 40):
        primary.do(primary.replica.read, number)
        primary.tick(0.2)
        for call, confirm in primary.calls("B", Confirm):
            primary.hear_answer("B", call, backup.hear("P", confirm))
    assert not primary.take(Refuse)
