"""What ``tally drain`` decides and says, and how it follows."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from tally.cluster.etcd import Put
from tally.cluster.keys import Keys
from tally.cluster.members import ControllerSeat, Member, Wanted
from tally.cluster.planning.placement import first_map
from tally.cluster.planning.progress import Drain, drain_of, placed
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.cluster.state import ClusterState
from tally.command.cluster import Refused, Seen, UnknownShard
from tally.command.drain import Bar, describe, draining, undoing
from tally.command.drain_watch import Left, Step, Watch, hindrances, joiners
from tally.command.shards import HeldCopy, ShardAnswer
from tests.support import cluster_values

KEYS = Keys("one")


def cluster(count: int = 3, copies: int = 2, **wanted: Wanted) -> ClusterState:
    """A cluster at rest in which all shards are alive."""
    config = cluster_values.config(copies=copies)
    members = cluster_values.members(count)
    return ClusterState(
        config=config,
        members=members | {name: replace(members[name], wanted=want) for name, want in wanted.items()},
        alive=dict.fromkeys(members, "00" * 8),
        controller=ControllerSeat("s0", "127.0.0.1:7000"),
        map=first_map(config.shape.slots, members, copies),
        map_revision=7,
    )


def seen(state: ClusterState) -> Seen:
    return Seen(KEYS, state, {KEYS.member(shard): 3 for shard in state.members})


def test_all_that_a_shard_has_goes_to_the_others() -> None:
    state = cluster()
    found = drain_of(state, "s2")
    assert state.map is not None
    assert found.copies == sum("s2" in row.in_sync for row in state.map.rows)
    assert sum(found.gains.values()) == found.copies
    assert set(found.gains) == {"s0", "s1"}
    assert (found.copies_each, found.wanted, found.floor, found.floor_wanted) == (2, 2, 1, 2)


def test_a_cluster_at_rest_has_all_copies_at_their_place() -> None:
    assert placed(cluster()) == (16, 16)
    assert placed(cluster(s2=Wanted.DRAINING)) == (16 - drain_of(cluster(), "s2").copies, 16)
    assert placed(replace(cluster(), map=None)) is None
    assert placed(replace(cluster(), alive={})) is None


def test_only_the_wish_of_the_member_is_written() -> None:
    state = cluster()
    change = draining(seen(state), "s2")
    (put,) = change.then
    assert isinstance(put, Put)
    assert put.key == "/tally/one/members/s2"
    assert Member.from_json(put.value, put.key) == replace(state.members["s2"], wanted=Wanted.DRAINING)


def test_it_is_guarded_by_all_members() -> None:
    """Two drains at the same time must not each count on the other's shard."""
    assert {KEYS.member(shard) for shard in ("s0", "s1", "s2")} <= set(draining(seen(cluster()), "s2").guards)


@pytest.mark.parametrize("state", [cluster(1, 1), cluster(2, 1, s1=Wanted.DRAINING)])
def test_the_last_active_shard_is_not_drained(state: ClusterState) -> None:
    with pytest.raises(Refused, match="no active shard would be left"):
        draining(seen(state), "s0")


def test_who_drains_already_is_not_written_again() -> None:
    change = draining(seen(cluster(s2=Wanted.DRAINING)), "s2")
    assert not change.then
    assert change.text.startswith("s2 drains already; it keeps ")


def test_shards_that_are_away_are_told() -> None:
    state = cluster()
    asleep = replace(state, alive={"s0": "00", "s2": "00"})
    assert "not alive: s1; what is to go there waits for it" in draining(seen(asleep), "s2").text


def test_undo_makes_it_active_again_once() -> None:
    draining_one = cluster(s2=Wanted.DRAINING)
    (put,) = undoing(seen(draining_one), "s2").then
    assert isinstance(put, Put)
    assert Member.from_json(put.value, put.key) == cluster().members["s2"]
    assert not undoing(seen(cluster()), "s2").then
    with pytest.raises(UnknownShard):
        undoing(seen(cluster()), "s7")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            Drain(43, 12, {"s1": 20, "s2": 23}, 2, 2, 1, 1),
            "it keeps 43 copies, 12 of them as primary; 43 copies go to others: s1 20, s2 23",
        ),
        (Drain(1, 0, {"s1": 1}, 2, 2, 1, 1), "it keeps 1 copy, 0 of them as primary; 1 copy goes to others: s1 1"),
        (
            Drain(8, 2, {}, 2, 3, 1, 2),
            (
                "it keeps 8 copies, 2 of them as primary; none moves: the others have them all\n"
                "2 active shards remain for 3 copies: each slot then has 2 copies\n"
                "slots then take writes with 1 copy in sync, so that one shard may be away"
            ),
        ),
        (
            Drain(0, 0, {}, 1, 2, 1, 1),
            (
                "it keeps no copies; when it is off: tally members remove s2\n"
                "1 active shard remains for 2 copies: each slot then has 1 copy"
            ),
        ),
    ],
)
def test_what_comes_of_it_is_said(found: Drain, said: str) -> None:
    assert describe("s2", found) == said


def drained_to(slots: int) -> ClusterState:
    """Of eight slots, the first ``slots`` are still only on s2, which drains."""
    state = cluster(s2=Wanted.DRAINING, copies=1)
    rows = tuple(SlotRow(3, name, {name: "a"}) for name in ["s2"] * slots + ["s1"] * (8 - slots))
    joining = {0: ("s1",)} if slots else {}
    return replace(state, map=SlotMap(rows, joining))


def test_a_drain_goes_on_while_copies_go_and_then_ends() -> None:
    watch = Watch("s2", drained_to(3), 0.0, patience_s=60)
    assert (watch.at_first, watch.left) == (3, Left(3, 3))
    assert watch.see(drained_to(3), {}, 1.0) is Step.GOES_ON
    assert watch.see(drained_to(2), {}, 59.0) is Step.GOES_ON
    assert watch.see(drained_to(2), {}, 118.0) is Step.GOES_ON
    assert watch.see(drained_to(0), {}, 300.0) is Step.DRAINED
    assert watch.left == Left(0, 0)


def test_nothing_moved_for_the_patience_is_stuck() -> None:
    watch = Watch("s2", drained_to(3), 0.0, patience_s=60)
    assert watch.see(drained_to(3), {}, 1.0) is Step.GOES_ON
    assert watch.unseen(60.0) is Step.GOES_ON
    assert watch.see(drained_to(3), {}, 61.0) is Step.STUCK
    assert watch.unseen(62.0) is Step.STUCK


def test_a_large_copy_that_is_coming_is_no_standstill() -> None:
    watch = Watch("s2", drained_to(3), 0.0, patience_s=60)
    for second in range(0, 600, 50):
        coming = HeldCopy("", complete=False, clone_bytes=second << 20)
        assert watch.see(drained_to(3), {"s1": ShardAnswer(copies={0: coming})}, second) is Step.GOES_ON


def test_what_happens_to_others_is_not_taken_for_a_move() -> None:
    state = drained_to(3)
    assert state.map is not None
    watch = Watch("s2", state, 0.0, patience_s=60)
    watch.see(state, {}, 1.0)
    others = replace(state, map=SlotMap((*state.map.rows[:7], SlotRow(9, "s0", {"s0": "a"})), state.map.joining))
    assert watch.see(others, {}, 61.0) is Step.STUCK


def test_a_drain_that_somebody_undid_ends() -> None:
    watch = Watch("s2", drained_to(3), 0.0, patience_s=60)
    assert watch.see(cluster(), {}, 1.0) is Step.UNDONE


def test_the_reasons_why_nothing_moves_are_told() -> None:
    state = replace(drained_to(3), alive={}, controller=None)
    assert joiners(state, "s2") == {"s1"}
    assert hindrances(state, "s2", {"s1": None}) == [
        "no shard is controller, so nobody decides what moves",
        "only 0 of 2 active shards are alive",
        "s1 is to get 1 of its slots, and is not alive",
        "slots 0-2 have no live copy to move: see tally status",
    ]


def test_full_disks_and_slots_that_are_not_served_are_told() -> None:
    answers = {"s1": ShardAnswer(disk_full=True), "s2": ShardAnswer(serving={1: 3, 2: 3})}
    assert hindrances(drained_to(3), "s2", answers) == [
        "the disk of s1 is nearly full: it takes no new copies",
        "slot 0 is not served by the primary now",
    ]
    assert hindrances(drained_to(3), "s2", {}) == []


def test_elsewhere_than_on_a_terminal_each_tenth_is_a_line() -> None:
    out = StringIO()
    with Bar(Console(file=out), 20) as bar:
        for left in (20, 19, 18, 18, 5, 0):
            bar.show(Left(left, 0))
    assert out.getvalue().splitlines() == [
        "20 copies left, 0 of them primary (0 %)",
        "18 copies left, 0 of them primary (10 %)",
        "5 copies left, 0 of them primary (70 %)",
        "0 copies left, 0 of them primary (100 %)",
    ]
