"""The schedules that broke a plausible reading of the rules (PROTOCOL.md), each with its safe outcome on the real core.

P is a primary, B and C are backups, J joins; X and Y are sub-batches.
"""

from protos.tally.internal.v1 import node_pb2
from shard.replica.replica import Role
from shard.replica.words import (
    Answer,
    Apply,
    Build,
    Clone,
    Cloned,
    Confirm,
    Effects,
    Forward,
    Grant,
    Heads,
    Install,
    Op,
    Refuse,
    Reply,
    Send,
    Tell,
    Verdict,
)
from tally.cluster.op_name import NOTHING
from tally.cluster.rows import Change
from tests.simulation.by_hand import ByHand, complete, op, row, talk
from tests.simulation.content import Body, Content
from tests.simulation.disk import StoredCopy
from tests.simulation.world import World

NO_BODY = Body((), (), ())


def alone() -> ByHand:
    """Return P, which serves alone in epoch 1."""
    primary = ByHand("P", complete("p1"))
    primary.see(row(1, "P", P="p1"))
    assert primary.replica.role is Role.SERVING
    return primary


def pair() -> tuple[ByHand, ByHand]:
    """Return P, which serves in epoch 1, and B, its backup."""
    primary, backup = ByHand("P", complete("p1")), ByHand("B", complete("b1"))
    both = row(1, "P", P="p1", B="b1")
    backup.see(both)
    primary.see(both)
    talk(primary, backup)
    assert primary.replica.role is Role.SERVING
    return primary, backup


def grant(primary: ByHand, joiner: ByHand) -> tuple[int, Cloned]:
    """Carry a joiner's call to the primary; return the call and the answer, which is still under way."""
    [(call, clone)] = joiner.calls("P", Clone)
    primary.do(primary.replica.receive, "J", call, clone)
    [granted] = primary.take(Grant)
    return call, Cloned(granted=True, epoch=granted.epoch, head=granted.head, content="all")


def joined(primary: ByHand) -> ByHand:
    """Return J, whose clone is complete; it has not been told to apply anything yet."""
    joiner = ByHand("J")
    joiner.see(row(1, "P", P="p1"), wished=True)
    joiner.hear_answer("P", *grant(primary, joiner))
    return joiner


def with_joiner() -> tuple[ByHand, ByHand]:
    """Return P, which serves alone and has asked for the addition of J, and J."""
    primary = alone()
    joiner = joined(primary)
    talk(primary, joiner)
    primary.tick(0.0)
    [ask] = primary.asked(Change.ADD)
    assert (ask.epoch, ask.shard, ask.incarnation) == (1, "J", joiner.durable.incarnation)
    return primary, joiner


def test_restarted_primary_serves_in_no_epoch_that_it_holds_already() -> None:
    """H1: alone in epoch 1 again it would commit what a late addition of J knows nothing of."""
    primary, _ = with_joiner()
    primary.crash()
    primary.see(row(1, "P", P="p1"))
    assert primary.replica.role is Role.WAITING
    primary.submit("X")
    assert [act.outcome for act in primary.take(Refuse)] == [node_pb2.OUTCOME_NOT_READY]
    assert not primary.take(Build)
    [ask] = primary.asked(Change.TERM)
    assert ask.epoch == 1


def test_late_op_of_a_crashed_primary_is_stale_after_its_new_term() -> None:
    """H2: two ops may never have the same epoch and number."""
    primary, backup = pair()
    primary.do(primary.replica.submit, "X", flush=False)
    [(_, late)] = primary.calls("B", Forward)
    primary.crash()
    primary.see(row(1, "P", P="p1", B="b1"))
    assert primary.replica.role is Role.WAITING
    primary.see(row(2, "P", P="p1", B="b1"))
    talk(primary, backup)
    primary.submit("Y")
    talk(primary, backup)
    answer = backup.hear("P", late)
    assert isinstance(answer, Answer)
    assert answer.verdict is Verdict.STALE
    assert backup.durable.head == primary.durable.head
    assert [applied.body for applied in backup.applied] == ["Y"]


def test_new_primary_serves_only_when_all_have_its_head() -> None:
    """H3: "duplicate" is said of an op only when every required copy has it."""
    before = op(1, 1, "X")
    primary, third = ByHand("B", complete("b1", 1, before)), ByHand("C", complete("c1", 1))
    primary.see(row(2, "B", B="b1", C="c1"))
    talk(primary, third, kind=Heads)
    assert primary.replica.role is Role.STARTING
    primary.submit("X")
    primary.do(primary.replica.read, "reader")
    assert [act.outcome for act in primary.take(Refuse)] == [node_pb2.OUTCOME_NOT_READY] * 2
    primary.tick(0.0)
    assert not primary.take(Tell)


def test_new_primary_forwards_its_head_in_the_new_epoch() -> None:
    """H3, how it goes on: the third copy gets the op that it lacks, and then B serves."""
    before = op(1, 1, "X")
    primary, third = ByHand("B", complete("b1", 1, before)), ByHand("C", complete("c1", 1))
    primary.see(row(2, "B", B="b1", C="c1"))
    [(call, heads)] = primary.calls("C", Heads)
    primary.hear_answer("C", call, third.hear("B", heads))
    [(call, forward)] = primary.calls("C", Forward)
    assert (forward.epoch, forward.op) == (2, before)
    primary.hear_answer("C", call, third.hear("B", forward))
    assert primary.replica.role is Role.SERVING
    assert third.durable.head == before


def test_joiner_that_reads_an_old_map_keeps_its_copy() -> None:
    """H4: a map never makes a complete copy go away; only a go-ahead of the primary does."""
    primary, joiner = with_joiner()
    had = joiner.durable
    joiner.crash()
    joiner.see(row(1, "P", P="p1"), wished=True)
    [(call, clone)] = joiner.calls("P", Clone)
    refused = primary.hear("J", clone, call)
    assert refused == Cloned(granted=False)
    joiner.hear_answer("P", call, refused)
    joiner.see(row(2, "P", P="p1", J=had.incarnation))
    assert (joiner.durable.incarnation, joiner.durable.head) == (had.incarnation, had.head)
    answer = joiner.hear("P", Heads(2))
    assert isinstance(answer, Answer)
    assert answer.verdict is Verdict.OK


def test_primary_grants_no_clone_to_a_copy_whose_addition_is_asked_for() -> None:
    """H5: the addition may land while the joiner wipes."""
    primary, _ = with_joiner()
    assert primary.hear("J", Clone("j9", None)) == Cloned(granted=False)
    primary.tick()
    assert not primary.take(Grant)


def test_only_the_answer_to_the_current_call_replaces_a_copy() -> None:
    """H6: the snapshot of the first attempt comes after the second attempt is complete."""
    primary = alone()
    joiner = ByHand("J")
    joiner.see(row(1, "P", P="p1"), wished=True)
    first, snapshot = grant(primary, joiner)
    joiner.tick(6.0)
    joiner.hear_answer("P", *grant(primary, joiner))
    second = joiner.durable
    assert second.complete
    joiner.hear_answer("P", first, snapshot)
    assert joiner.durable == second
    assert len([write for write in joiner.writes if isinstance(write, Install)]) == 1


def test_late_answer_replaces_nothing_once_the_copy_is_a_member() -> None:
    """H6 and H10, the other way: the row names the copy, so its open call is closed."""
    primary = alone()
    joiner = joined(primary)
    has = joiner.durable
    joiner.tick(3.0)
    [(call, _)] = joiner.calls("P", Clone)
    joiner.see(row(2, "P", P="p1", J=has.incarnation))
    joiner.hear_answer("P", call, Cloned(granted=True, epoch=2, head=Op(), content="all"))
    assert joiner.durable == has


def test_addition_is_asked_for_only_when_the_joiner_has_the_head() -> None:
    """H7: between a wish and an addition P commits without J, so only P knows when J may be added."""
    primary = alone()
    joined(primary)
    primary.submit("X")
    primary.tick()
    assert not primary.asked(Change.ADD)
    assert primary.committed


def test_nothing_is_committed_without_a_copy_whose_addition_is_asked_for() -> None:
    """H7: the addition may have landed already."""
    primary, joiner = with_joiner()
    primary.submit("X")
    assert not primary.committed
    [(call, forward)] = primary.calls("J", Forward)
    primary.hear_answer("J", call, joiner.hear("P", forward))
    assert primary.committed


def test_repeated_forward_is_answered_after_the_flush_too() -> None:
    """H8: "have it" is true only when it is on the disk."""
    _, backup = pair()
    message = Forward(1, "b1", op(1, 1, "X"))
    for call in (901, 902):
        effects = Effects()
        backup.replica.receive("P", call, message, backup.now, effects)
        assert not [act for act in effects.now if isinstance(act, Reply)]
        assert [act.call for act in effects.later if isinstance(act, Reply)] == [call]


def test_read_waits_for_a_round_that_begins_after_it() -> None:
    """H9: the backup may have confirmed the running round before it was promoted."""
    primary, backup = pair()
    primary.do(primary.replica.read, "early")
    [(call, confirm)] = primary.calls("B", Confirm)
    primary.do(primary.replica.read, "late")
    primary.hear_answer("B", call, backup.hear("P", confirm))
    assert [act.tokens for act in primary.take(Tell)] == [("early",)]
    [(call, confirm)] = primary.calls("B", Confirm)
    backup.hear("B2", Heads(2))
    primary.hear_answer("B", call, backup.hear("P", confirm))
    assert not primary.take(Tell)
    assert [act.tokens for act in primary.take(Refuse)] == [("late",)]


def test_joiner_with_an_open_call_acknowledges_nothing() -> None:
    """H10: P holds the attempt a3 for current, and J is about to drop it for a4."""
    primary = alone()
    joiner = ByHand("J")
    joiner.see(row(1, "P", P="p1"), wished=True)
    [(third, clone)] = joiner.calls("P", Clone)
    primary.do(primary.replica.receive, "J", third, clone)
    [granted] = primary.take(Grant)
    joiner.hear_answer("P", third, Cloned(granted=True, epoch=1, head=granted.head, content="all"))
    joiner.tick(3.0)
    fourth, snapshot = grant(primary, joiner)
    primary.do(primary.replica.receive, "J", third, clone)  # It comes again.
    assert primary.take(Grant)
    primary.take(Send)
    primary.tick(3.0)
    talk(primary, joiner)
    assert not primary.asked(Change.ADD)
    joiner.hear_answer("P", fourth, snapshot)
    primary.tick()
    talk(primary, joiner)
    assert not primary.asked(Change.ADD)


def test_acknowledgement_of_an_earlier_registration_does_not_count() -> None:
    """H10: a registration, also a repeated one, starts without acknowledgements."""
    primary = alone()
    joiner = ByHand("J")
    joiner.see(row(1, "P", P="p1"), wished=True)
    [(call, clone)] = joiner.calls("P", Clone)
    primary.do(primary.replica.receive, "J", call, clone)
    [(forward_call, forward)] = primary.calls("J", Forward)
    joiner.hear_answer("P", call, Cloned(granted=True, epoch=1, head=Op(), content="all"))
    acknowledged = joiner.hear("P", forward, forward_call)
    primary.do(primary.replica.receive, "J", call, clone)
    primary.hear_answer("J", forward_call, acknowledged)
    assert not primary.asked(Change.ADD)


def stored_copy(*ops: Op) -> StoredCopy:
    """Return a disk with these ops."""
    disk = StoredCopy(World(0), complete("b1", 1), kept=9)
    disk.write([Apply(each) for each in ops])
    return disk


def test_catch_up_compares_the_whole_name_of_the_head() -> None:
    """H11: P has (1, 1, X), and what B committed as its first op is Y."""
    ours = op(3, 1, "Y")._replace(body=NO_BODY)
    disk = stored_copy(ours)
    assert disk.ops_after(op(1, 1, "X").name) is None
    assert disk.ops_after(op(3, 1, "X").name) is None
    assert disk.ops_after(ours.name) == ()


def test_joiner_tells_the_digest_of_its_head_and_the_grant_carries_it() -> None:
    """H11: what is compared is what was flushed, digest and all."""
    primary = alone()
    mine = op(1, 1, "X")
    joiner = ByHand("J", complete("j1", 1, mine))
    joiner.see(row(1, "P", P="p1"), wished=True)
    [(call, clone)] = joiner.calls("P", Clone)
    primary.do(primary.replica.receive, "J", call, clone)
    [granted] = primary.take(Grant)
    assert granted.after == mine.name
    assert granted.after != op(1, 1, "Y").name


def test_catch_up_counts_only_while_the_head_is_unchanged() -> None:
    """H11: the ops after a head fit to that head only."""
    joiner = ByHand("J", complete("j1", 1, op(1, 1, "X")))
    joiner.see(row(1, "P", P="p1"), wished=True)
    [(call, _)] = joiner.calls("P", Clone)
    second = op(1, 2, "Y", joiner.durable.head.name)
    joiner.replica.stored = joiner.replica.stored._replace(head=second)
    joiner.hear_answer("P", call, Cloned(granted=True, epoch=1, ops=(second,)))
    assert joiner.replica.stored.incarnation == "j1"
    assert not joiner.applied


def test_log_of_ops_is_dropped_with_the_data() -> None:
    """H12: P would find in its own log what J has of an op that was never committed."""
    lost = op(1, 1, "X")._replace(body=NO_BODY)
    disk = stored_copy(lost)
    disk.write([Install("b2", 3, Op(), Content())])
    assert disk.stored.head.name == NOTHING
    assert disk.ops_after(lost.name) is None


def test_row_without_a_copy_begins_a_new_term_in_the_middle_of_a_term_start() -> None:
    """L1: the backups may hold the new epoch already, and answer no older one."""
    primary, backup = ByHand("P", complete("p1", 3)), ByHand("B", complete("b1", 3))
    primary.see(row(4, "P", P="p1", B="b1", C="c1"))
    talk(primary, backup)
    assert not primary.serves()
    backup.hear("X", Heads(5))
    primary.see(row(5, "P", P="p1", B="b1"))
    talk(primary, backup)
    assert primary.serves()
    assert primary.durable.epoch == 5


def test_silent_copy_is_asked_to_leave_in_a_term_start() -> None:
    """L1: the term start waits for no copy for ever."""
    primary, backup = ByHand("P", complete("p1", 3)), ByHand("B", complete("b1", 3))
    primary.see(row(4, "P", P="p1", B="b1", C="c1"))
    talk(primary, backup)
    primary.tick(2.5)
    [ask] = primary.asked(Change.REMOVE)
    assert (ask.epoch, ask.shard, ask.incarnation) == (4, "C", "c1")


def test_new_primary_adopts_the_op_that_the_old_one_is_ahead() -> None:
    """L2: in a move under load the old primary is always one op ahead; the new one stays primary."""
    ahead = op(1, 1, "X")
    old, new = ByHand("P", complete("p1", 1, ahead)), ByHand("B", complete("b1", 1))
    both = row(2, "B", P="p1", B="b1")
    old.see(both)
    new.see(both)
    talk(new, old)
    assert new.replica.role is Role.SERVING
    assert new.durable.head == ahead
    assert not new.asked(Change.PROMOTE)


def test_head_of_a_removed_copy_does_not_count() -> None:
    """L2: what only a removed copy has was never committed."""
    removed = ByHand("C", complete("c1", 1, op(1, 1, "X")))
    primary, backup = ByHand("P", complete("p1", 1)), ByHand("B", complete("b1", 1))
    primary.see(row(2, "P", P="p1", B="b1", C="c1"))
    [(late, heads)] = primary.calls("C", Heads)
    answer = removed.hear("P", heads)
    primary.see(row(3, "P", P="p1", B="b1"))
    primary.hear_answer("C", late, answer)
    talk(primary, backup)
    assert primary.replica.role is Role.SERVING
    assert primary.durable.head.name == NOTHING
