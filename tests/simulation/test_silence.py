"""The schedules about removal for silence (PROTOCOL.md), S1 to S12, each with its safe outcome on the real core.

P is a primary, B and C are backups, J joins; X and Y are sub-batches. A copy that is begun here with something on its
disk has no witness: that disk may be older than it was.
"""

from random import Random
from typing import Final

import pytest

from protos.tally.internal.v1 import node_pb2
from shard.replica.replica import Role
from shard.replica.term import AWAY_S, REFUSED_S, SILENT_S
from shard.replica.words import Ahead, Answer, Ask, Clone, Cloned, Confirm, Forward, Grant, Heads, Op, Refuse, Verdict
from tally.cluster import rows
from tally.cluster.op_name import NOTHING
from tally.cluster.planning import doubt
from tally.cluster.planning.health import CopyHealth, ShardHealth
from tally.cluster.rows import Change, Request
from tally.cluster.slot_map import SlotMap, SlotRow
from tests.simulation.by_hand import ByHand, complete, op, row, talk
from tests.simulation.controller import of_living_processes
from tests.simulation.etcd import Seen
from tests.simulation.planner import Health, SlotHealth, View, successor
from tests.simulation.test_schedules import pair

FIRST: Final = op(1, 1, "X")
SECOND: Final = op(1, 2, "Y", FIRST.name)
THIRD: Final = op(1, 3, "Z", SECOND.name)
LONG_S: Final = SILENT_S + 0.6


def restarted(head: Op | None = SECOND, *, flush: bool = True) -> ByHand:
    """Return P, which begins its first term with what it found on its disk; B and C are called."""
    primary = ByHand("P", complete("p1", 1, head))
    primary.do(primary.replica.see_row, row(2, "P", P="p1", B="b1", C="c1"), wished=False, flush=flush)
    return primary


def backup(name: str, head: Op | None = SECOND) -> ByHand:
    """Return B or C, with this head."""
    return ByHand(name, complete(f"{name.lower()}1", 1, head))


def blamed(primary: ByHand) -> dict[str, Ask]:
    """Return, and forget, the last request about each whose removal is asked for."""
    return {ask.shard: ask for ask in primary.asked(Change.REMOVE)}


def refuse_all(primary: ByHand, shard: str) -> None:
    """Let a machine refuse all that it was asked."""
    for kind in (Heads, Forward, Confirm):
        for call, _ in primary.calls(shard, kind):
            primary.do(primary.replica.failed, shard, call, refused=True)


# S1 to S4: who is silent.


def test_nobody_is_blamed_while_the_own_epoch_is_being_flushed() -> None:
    """S1: B and C were not even called: their Heads leave after the flush. A reader comes meanwhile."""
    primary = restarted(flush=False)
    primary.now += LONG_S
    primary.do(primary.replica.read, "reader", flush=False)
    primary.flush()
    primary.tick(0.1)
    assert not blamed(primary)


def test_nothing_is_asked_under_an_epoch_that_is_not_flushed() -> None:
    """S1: whatever the reason is: P may die, and come back without that epoch (rule 2)."""
    primary = restarted(flush=False)
    assert primary.replica.term is not None
    primary.replica.term.wishes.want("B", Change.REMOVE, "b1")
    primary.do(primary.replica.tick, flush=False)
    primary.flush()
    assert not blamed(primary)
    primary.tick()
    assert blamed(primary).keys() == {"B"}


def test_silence_counts_from_the_end_of_the_own_flush() -> None:
    """S1: what left before it is answered while it lasts, and waits to be heard."""
    primary, _ = pair()
    primary.tick(0.2)
    primary.do(primary.replica.submit, "X", flush=False)
    for _ in range(20):
        primary.now += 0.2  # Readers and the like look in; the flush takes 4 s.
        primary.do(primary.replica.read, "reader", flush=False)
    primary.flush()
    primary.tick(SILENT_S)
    assert not blamed(primary)
    primary.tick(0.6)
    assert blamed(primary).keys() == {"B"}


def test_event_judges_nobody_for_other_events_may_wait_behind_it() -> None:
    """S2: B's answer waits in the inbox, behind a sub-batch."""
    primary, other = pair()
    primary.submit("X")
    [(call, forward)] = primary.calls("B", Forward)
    answer = other.hear("P", forward)
    primary.tick(SILENT_S - 0.1)
    primary.now += 0.25
    primary.submit("Y")
    primary.do(primary.replica.read, "reader")
    assert not blamed(primary)
    primary.hear_answer("B", call, answer)
    primary.tick()
    assert not blamed(primary)


def test_process_that_was_stopped_blames_nobody_for_that() -> None:
    """S3: the timer fires before what came meanwhile is read."""
    primary, other = pair()
    primary.submit("X")
    [(call, forward)] = primary.calls("B", Forward)
    primary.tick(SILENT_S - 0.1)
    primary.now += 60.0
    primary.do(primary.replica.tick)
    assert not blamed(primary)
    primary.hear_answer("B", call, other.hear("P", forward))
    primary.tick()
    assert not blamed(primary)


def test_process_that_is_always_late_counts_little_of_it() -> None:
    """S3: each look more than 0.3 s after the last one counts as 0.3 s."""
    primary, _ = pair()
    primary.submit("X")
    for _ in range(6):
        primary.now += 10.0
        primary.do(primary.replica.tick)
    primary.tick(0.1)
    assert not blamed(primary)
    primary.tick(0.5)
    assert blamed(primary).keys() == {"B"}


def test_refused_connection_of_a_starting_process_is_no_silence() -> None:
    """S4: P and B come back together, and P's disk was set back: B is just not there yet."""
    primary = restarted()
    for _ in range(int((AWAY_S - 0.5) / 0.25)):
        refuse_all(primary, "B")
        refuse_all(primary, "C")
        primary.tick(0.25)
    assert not blamed(primary)
    for _ in range(4):
        refuse_all(primary, "B")
        primary.tick(0.25)
    assert blamed(primary)["B"].head == SECOND.name


def test_machine_that_refuses_connections_leaves_soon_if_there_is_a_witness() -> None:
    """S4: a shard that was killed holds nobody up."""
    primary, _ = pair()
    primary.submit("X")
    for _ in range(4):
        refuse_all(primary, "B")
        primary.tick(0.25)
    assert primary.now - 100.0 < REFUSED_S + 0.6
    assert blamed(primary)["B"].head is None


# S5 to S8: who may be believed.


@pytest.mark.parametrize("terms", [1, 2, 3])
def test_removal_without_a_witness_is_doubted_in_every_term(terms: int) -> None:
    """S5: P's disk was set back. A row that changes for any reason ends its first term, and tells P nothing."""
    primary = restarted()
    for epoch in range(3, 2 + terms):
        primary.see(row(epoch, "P", P="p1", B="b1", C="c1"))
    primary.tick(LONG_S)
    asked = blamed(primary)
    assert {shard: ask.head for shard, ask in asked.items()} == {"B": SECOND.name, "C": SECOND.name}


def test_known_head_is_no_witness_before_it_is_adopted_and_flushed() -> None:
    """S6: B has the op after P's head; that does not tell what C has."""
    primary = restarted()
    other, third = backup("B", THIRD), backup("C", FIRST)
    [(call, heads)] = primary.calls("C", Heads)
    talk(primary, other)
    primary.tick(LONG_S)
    assert blamed(primary)["C"].head == SECOND.name
    answer = third.hear("P", heads)
    assert isinstance(answer, Answer)
    third_is_behind = answer._replace(head=Op())
    primary.do(primary.replica.answered, "C", call, third_is_behind, flush=False)
    assert primary.replica.stored.head == THIRD
    witness = primary.replica._witness
    before = witness.there
    primary.flush()
    assert (before, witness.there) == (False, True)
    primary.tick(LONG_S)
    assert blamed(primary)["B"].head is None


@pytest.mark.parametrize(("its", "vouches"), [(SECOND, True), (FIRST, True), (None, False), (op(1, 2, "other"), False)])
def test_member_vouches_for_a_head_with_the_same_or_the_one_before(its: Op | None, vouches: bool) -> None:
    """S6: the whole name counts; who is further behind knows nothing of what P may have lost."""
    primary = restarted()
    talk(primary, backup("B", its))
    primary.tick(LONG_S)
    assert (blamed(primary)["C"].head is None) is vouches


def test_head_whose_forerunner_is_not_known_is_vouched_for_by_no_empty_copy() -> None:
    """S6: of the head of a slot of one copy only the name is kept."""
    primary = restarted(Op(SECOND.name))
    talk(primary, backup("B", None))
    primary.tick(LONG_S)
    assert blamed(primary)["C"].head == SECOND.name


def test_witness_lasts_as_long_as_the_process() -> None:
    """S7: not as long as the term, else any change of the row would cost a look; and not longer."""
    primary = restarted()
    talk(primary, backup("B"), backup("C"))
    assert primary.serves()
    primary.see(row(3, "P", P="p1", B="b1", C="c1"))
    primary.tick(LONG_S)
    assert {ask.head for ask in blamed(primary).values()} == {None}
    primary.crash()
    primary.see(row(3, "P", P="p1", B="b1", C="c1"))
    primary.see(row(4, "P", P="p1", B="b1", C="c1"))
    primary.tick(LONG_S)
    assert {ask.head for ask in blamed(primary).values()} == {SECOND.name}


def test_copy_that_was_founded_in_this_process_is_not_doubted() -> None:
    """S7: it can't have lost anything."""
    primary = ByHand("P")
    primary.replica.found("p1")
    primary.see(row(1, "P", P="p1", B="b1"))
    primary.tick(LONG_S)
    assert blamed(primary)["B"].head is None


def test_copy_that_joined_in_this_process_is_not_doubted() -> None:
    """S7: what it has came from the primary, and was flushed since."""
    joiner = ByHand("J")
    joiner.see(row(1, "P", P="p1"), wished=True)
    [(call, _)] = joiner.calls("P", Clone)
    joiner.hear_answer("P", call, Cloned(granted=True, epoch=1, head=SECOND, content="all"))
    joiner.see(row(2, "J", P="p1", J=joiner.durable.incarnation))
    joiner.tick(LONG_S)
    assert blamed(joiner)["P"].head is None


def look_at(copy: ByHand) -> ShardHealth:
    """Return what a shard tells of its copy of slot 0."""
    stored = copy.durable
    return ShardHealth({0: CopyHealth(stored.incarnation, stored.complete, stored.epoch, head=stored.head.name)})


@pytest.mark.parametrize(("its", "change"), [(THIRD, Change.PROMOTE), (SECOND, Change.REMOVE), (FIRST, Change.REMOVE)])
def test_doubted_removal_is_decided_by_what_the_member_has(its: Op, change: Change) -> None:
    """S8: cut off from each other, P and B would wait for ever; who is ahead goes on."""
    primary, other = restarted(), backup("B", its)
    primary.tick(LONG_S)
    request = request_of(blamed(primary)["B"])
    alive = ("P", "B")
    assert doubt.judged(request, look_at(other), alive=alive, unreachable=()) == request._replace(change=change)
    assert isinstance(doubt.judged(request, None, alive=alive, unreachable=()), str)


def request_of(ask: Ask, process: str = "1") -> Request:
    """Return what reaches the controller."""
    return Request(ask.change, 0, ask.epoch, ask.shard, ask.incarnation, process, ask.head)


def test_slot_whose_primary_restarts_while_cut_off_from_one_live_member_serves_again() -> None:
    """S8: the controller reaches that member, and it is not ahead."""
    primary, other, third = restarted(), backup("B"), backup("C")
    talk(primary, other, kind=Forward)
    primary.tick(LONG_S)
    asked = blamed(primary)["C"]
    request = request_of(asked)
    checked = doubt.judged(request, look_at(third), alive=("P", "B", "C"), unreachable=())
    assert checked == request
    primary.see(rows.remove(row(2, "P", P="p1", B="b1", C="c1"), "C"))
    talk(primary, other)
    assert primary.serves()


def test_of_two_doubted_copies_that_are_cut_off_from_each_other_the_higher_one_is_promoted() -> None:
    """S9: in turn they would ask each other's heads in vain for ever; who has an alive key comes first, though."""

    def health(head: Op) -> Health:
        return (SlotHealth("any", 2, serves=False, head=head.name),)

    copies = {"B": "b1", "C": "c1"}
    for heads, alive, chosen in (
        ((SECOND, THIRD), ("B", "C"), "C"),
        ((THIRD, SECOND), ("B", "C"), "B"),
        ((SECOND, THIRD), ("B",), "B"),
    ):
        told = dict(zip("BC", map(health, heads), strict=True))
        view = View(SlotMap(()), alive, told, (), (), {}, (), (), 3, 1)
        assert {successor(view, 0, copies, Random(seed)) for seed in range(9)} == {chosen}


# S10 to S12: what else removes who has everything.


def joining() -> tuple[ByHand, int]:
    """Return J, complete, which calls P for another copy while its addition is under way; and its call."""
    joiner = ByHand("J", complete("j1", 1, SECOND))
    joiner.see(row(1, "P", P="p1"), wished=True)
    [(call, _)] = joiner.calls("P", Clone)
    return joiner, call


def test_message_of_a_higher_epoch_closes_an_open_clone_call() -> None:
    """S10: J was added. NO_COPY would be its removal, with no silence at all; and P has lost what J has."""
    joiner, call = joining()
    primary = ByHand("P", complete("p1", 1))
    primary.see(row(2, "P", P="p1", J="j1"))
    talk(primary, joiner)
    assert [(ask.change, ask.shard) for ask in primary.take(Ask)] == [(Change.PROMOTE, "J")]
    joiner.hear_answer("P", call, Cloned(granted=True, epoch=2, head=FIRST, content="all"))
    assert joiner.durable.head == SECOND


@pytest.mark.parametrize("message", [Heads(1), Forward(1, "j1", SECOND), Confirm(1, "j1")])
def test_message_of_the_same_epoch_does_not_close_it(message: Heads | Forward | Confirm) -> None:
    """S10: it may be of the primary that is just answering the call (H10)."""
    joiner, _ = joining()
    answer = joiner.hear("P", message)
    assert isinstance(answer, Answer)
    assert answer.verdict is Verdict.NO_COPY


def test_no_clone_is_called_for_while_a_newer_row_is_known_of() -> None:
    """S10: else the next call is open when the primary asks again."""
    joiner, _ = joining()
    joiner.hear("P", Heads(2))
    joiner.tick(9.0)
    assert not joiner.calls("P", Clone)
    joiner.see(row(2, "P", P="p1", J="j1"))
    assert joiner.replica.role is Role.FOLLOWING


def test_clone_is_called_for_again_when_the_newer_row_does_not_name_the_copy() -> None:
    """S10: it is a joiner still."""
    joiner, _ = joining()
    joiner.hear("P", Heads(2))
    joiner.see(row(2, "P", P="p1"), wished=True)
    joiner.tick(0.3)
    assert joiner.calls("P", Clone)


def test_removal_that_a_former_process_asked_for_is_refused() -> None:
    """S11: it was right then. P comes back with an older disk, and B is the only one who has everything."""
    primary, _ = pair()
    primary.submit("X")
    primary.tick(LONG_S)
    late = request_of(blamed(primary)["B"], process="1")
    seen = Seen(SlotMap((row(1, "P", P="p1", B="b1"),)), 1, "", 0, {}, lease_held=True, leads=True)
    for alive, there in (({"P": "1"}, [late]), ({"P": "2"}, []), ({}, [])):
        assert of_living_processes(seen._replace(alive=alive), [late]) == there


@pytest.mark.parametrize(
    ("its", "gave_up", "granted"),
    [
        (THIRD, 0, False),
        (SECOND, 0, True),  # One ahead is the op that was under way.
        (THIRD, 2, True),
        (THIRD._replace(name=THIRD.name._replace(epoch=2)), 2, False),
    ],
)
def test_joiner_that_is_ahead_keeps_what_it_has(its: Op, gave_up: int, granted: bool) -> None:
    """S12: it was removed in time, and P is what came back older: P's copy would replace what is left of Y and Z."""
    primary = ByHand("P", complete("p1", 1, FIRST))
    primary.see(SlotRow(3, "P", {"P": "p1"}, 1, gave_up))
    for attempt in ("j2", "j3"):
        primary.do(primary.replica.receive, "J", 900 + int(attempt[1]), Clone(attempt, its.name))
    assert bool(primary.take(Grant)) is granted
    told = primary.take(Ahead)
    assert told == ([] if granted else [Ahead("J", its.name, FIRST.name)])
    if granted:
        return
    assert primary.serves()
    primary.submit("X")
    assert not primary.take(Refuse)


def test_copy_without_a_head_is_not_ahead() -> None:
    """S12: a new joiner has nothing to keep."""
    primary = ByHand("P", complete("p1", 1))
    primary.see(row(2, "P", P="p1"))
    for number, head in enumerate((None, NOTHING)):
        primary.do(primary.replica.receive, f"J{number}", 910 + number, Clone(f"j{number}", head))
    assert len(primary.take(Grant)) == 2


def test_readers_are_answered_while_the_own_disk_is_slow() -> None:
    """They need no flush, and what they set off asks nothing of the controller."""
    primary, other = pair()
    primary.do(primary.replica.submit, "X", flush=False)
    primary.do(primary.replica.read, "reader", flush=False)
    [(_, confirm)] = primary.calls("B", Confirm)
    assert confirm == Confirm(1, "b1")
    primary.now += 3.2
    primary.do(primary.replica.read, "late", flush=False)
    assert {act.outcome for act in primary.take(Refuse)} == {node_pb2.OUTCOME_NOT_READY}
    assert not primary.take(Ask)
    assert other.durable.epoch == 1
