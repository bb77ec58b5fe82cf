"""Schedules with disks that come back older than they were, D1 to D7, each with its safe outcome on the real core.

P is a primary, B and C are its backups; X, Y and Z are sub-batches.
"""

from shard.replica.replica import Role
from shard.replica.words import Answer, Ask, Clone, Confirm, Forward, Heads, Op, Verdict
from tally.cluster.rows import Change
from tests.simulation.by_hand import ByHand, complete, op, row, talk


def with_three() -> tuple[ByHand, ByHand, ByHand]:
    """Return P, B and C, members of one row; P serves, and X and Y are committed."""
    primary, backup, other = ByHand("P", complete("p1")), ByHand("B", complete("b1")), ByHand("C", complete("c1"))
    for copy in (other, backup, primary):
        copy.see(row(1, "P", P="p1", B="b1", C="c1"))
    for body in "XY":
        talk(primary, backup, other)
        primary.submit(body)
    talk(primary, backup, other)
    assert primary.committed
    return primary, backup, other


def back_at(copy: ByHand, epoch: int, head: Op | None = None) -> None:
    """Restart a copy whose disk is as it was in ``epoch``, with this head; it has read the first row."""
    copy.crash(complete(copy.durable.incarnation, epoch, head))
    copy.see(row(1, "P", P="p1", B="b1", C="c1"))


def test_primary_that_lost_its_tail_renounces_and_removes_nobody() -> None:
    """D1: B and C have what was acknowledged; P's removing them was the end of it."""
    primary, backup, other = with_three()
    back_at(primary, 1)
    primary.see(row(2, "P", P="p1", B="b1", C="c1"))
    talk(primary, backup, other)
    assert not primary.asked(Change.REMOVE)
    assert not primary.serves()
    assert primary.durable == complete("p2", 2)
    primary.crash()
    primary.see(row(2, "P", P="p1", B="b1", C="c1"))
    assert primary.replica.role is Role.FOLLOWING


def test_renouncing_primary_asks_that_who_has_everything_be_promoted() -> None:
    """D1: after the flush, so that it can't come back as what it was."""
    primary, backup, other = with_three()
    back_at(primary, 1)
    back_at(backup, 1)
    primary.see(row(2, "P", P="p1", B="b1", C="c1"))
    talk(primary, backup, other)
    [ask] = primary.asked(Change.PROMOTE)
    assert (ask.epoch, ask.shard, ask.incarnation) == (2, "C", "c1")


def test_primary_that_lost_its_tail_renounces_with_the_first_answer_that_shows_it() -> None:
    """D1: C is slow. Waiting for it, P would ask for its removal, and then perhaps for that of B, who knew better."""
    primary, backup, other = with_three()
    back_at(primary, 1)
    primary.see(row(2, "P", P="p1", B="b1", C="c1"))
    talk(primary, backup)
    [ask] = primary.asked(Change.PROMOTE)
    assert (ask.epoch, ask.shard, ask.incarnation) == (2, "B", "b1")
    primary.tick(9.0)
    assert not primary.asked(Change.REMOVE)
    backup.see(row(3, "B", P="p1", B="b1", C="c1"))
    talk(backup, other)
    assert backup.durable.head == other.durable.head


def test_each_copy_that_lost_its_tail_renounces_until_the_one_with_everything_serves() -> None:
    """D2: P and B came back older, and B is promoted first."""
    primary, backup, other = with_three()
    back_at(primary, 1)
    back_at(backup, 1)
    for copy in (other, primary, backup):
        copy.see(row(2, "B", P="p1", B="b1", C="c1"))
    talk(backup, primary, other)
    assert backup.durable.incarnation == "b2"
    for copy in (backup, primary, other):
        copy.see(row(3, "C", P="p1", B="b1", C="c1"))
    talk(other, primary, backup)
    assert {ask.shard for ask in other.asked(Change.REMOVE)} == {"B"}
    other.see(row(4, "C", P="p1", C="c1"))
    talk(other, primary)
    assert {ask.shard for ask in other.asked(Change.REMOVE)} == {"P"}
    other.see(row(5, "C", C="c1"))
    assert other.serves()


def test_copy_that_lost_the_op_under_way_only_gets_it_back() -> None:
    """D3: its head is where it is after any crash."""
    primary, backup, other = with_three()
    first = backup.applied[0]
    back_at(primary, 1, first)
    primary.see(row(2, "P", P="p1", B="b1", C="c1"))
    talk(primary, backup, other)
    assert primary.serves()
    assert primary.durable.head == other.durable.head


def test_renounced_copy_joins_again_from_its_own_head() -> None:
    """D4: what it has is a part of the line; rule 9 compares the whole name of its head."""
    primary, backup, other = with_three()
    first = backup.applied[0]
    primary.submit("Z")
    talk(primary, backup, other)
    back_at(primary, 1, first)
    primary.see(row(2, "P", P="p1", B="b1", C="c1"))
    talk(primary, backup, other)
    assert primary.durable == complete("p2", 2, first)
    primary.see(row(4, "C", B="b1", C="c1"), wished=True)
    [(_, clone)] = primary.calls("C", Clone)
    assert clone.head == first.name
    assert clone.incarnation not in {"p1", "p2"}


def test_idle_backup_of_another_process_is_asked_for_its_head_again() -> None:
    """D5: nothing else would tell that it lost what it acknowledged, until P is gone."""
    primary, backup, other = with_three()
    primary.take(Ask)
    back_at(backup, 1)
    primary.do(primary.replica.restarted, "B")
    [(call, forward)] = primary.calls("B", Forward)
    assert not primary.calls("C", Forward)
    answer = backup.hear("P", forward, call)
    assert isinstance(answer, Answer)
    assert answer.verdict is Verdict.DIVERGED
    primary.hear_answer("B", call, answer)
    [ask] = primary.asked(Change.REMOVE)
    assert (ask.shard, ask.incarnation) == ("B", "b1")
    assert other.durable.head == primary.durable.head


def test_backup_that_lost_nothing_stays_after_its_restart() -> None:
    """D5: a restart alone costs one question."""
    primary, backup, _ = with_three()
    primary.take(Ask)
    backup.crash()
    backup.see(row(1, "P", P="p1", B="b1", C="c1"))
    primary.do(primary.replica.restarted, "B")
    talk(primary, backup)
    primary.tick(9.0)
    assert not primary.take(Ask)
    assert primary.replica.term is not None
    assert primary.replica.term.quiet


def test_question_that_the_new_process_does_not_get_is_asked_again() -> None:
    """D5: and nothing is committed without its answer."""
    primary, backup, other = with_three()
    primary.do(primary.replica.restarted, "B")
    [(call, _)] = primary.calls("B", Forward)
    primary.do(primary.replica.failed, "B", call, refused=False)
    assert primary.replica.restless
    primary.tick()
    talk(primary, backup, other)
    primary.submit("Z")
    talk(primary, backup, other)
    assert primary.committed


def test_acknowledgement_of_the_process_before_does_not_count() -> None:
    """D5: B acknowledged Z, and came back without it; the answer was under way."""
    primary, backup, other = with_three()
    primary.submit("Z")
    [(call, forward)] = primary.calls("B", Forward)
    late = backup.hear("P", forward, call)
    talk(primary, other)
    back_at(backup, 1)
    primary.do(primary.replica.restarted, "B")
    primary.hear_answer("B", call, late)
    assert not primary.committed


def test_no_term_is_begun_in_the_epoch_of_the_first_row() -> None:
    """D6: P served in epoch 2 and asked for the addition of J; its disk knows of epoch 1 only. It is H1 again."""
    primary = ByHand("P", complete("p1", 1))
    primary.see(row(2, "P", P="p1"))
    assert primary.serves()
    primary.crash(complete("p1", 1))
    primary.see(row(2, "P", P="p1"))
    assert primary.replica.role is Role.WAITING
    [ask] = primary.asked(Change.TERM)
    assert ask.epoch == 2
    primary.see(row(3, "P", P="p1"))
    assert primary.serves()


def test_copy_whose_epoch_fell_answers_no_deposed_primary() -> None:
    """D7: P is cut off from the map; B was primary of epoch 3 with C, and has a disk of epoch 1 now."""
    primary, backup, _ = with_three()
    backup.crash(complete("b1", 1, primary.durable.head))
    backup.see(row(4, "C", B="b1", C="c1"))
    for message in (Confirm(1, "b1"), Heads(1), Forward(1, "b1", op(1, 3, "Z", primary.durable.head.name))):
        answer = backup.hear("P", message)
        assert isinstance(answer, Answer)
        assert (answer.verdict, answer.epoch) == (Verdict.STALE, 4)
    assert not backup.applied
