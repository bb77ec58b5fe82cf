"""Which slots can be given up, to whom they go, and what is said of it."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from protos.tally.internal.v1 import node_pb2
from tally.cluster.etcd import Put
from tally.cluster.keys import Keys
from tally.cluster.members import Wanted
from tally.cluster.op_name import OpName
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.cluster.state import ClusterState
from tally.command.cluster import Refused, Seen, UnknownShard
from tally.command.give_up import change, check_map
from tally.command.losses import Loss, describe_cost, emptied, losses
from tally.command.shards import HeldCopy, Redundancy, ShardAnswer, answer_of
from tests.support import cluster_values

KEYS = Keys("one")
LOST = {"s0": "aa", "s1": "bb"}
EMPTY = ShardAnswer()


def cluster(*alive: str) -> ClusterState:
    """Slots 0 to 3 on s0 and s1, 4 to 7 on s2; s3 and s4 have nothing."""
    rows = (*(SlotRow(5, "s0", LOST, 2) for _ in range(4)), *(SlotRow(3, "s2", {"s2": "cc"}) for _ in range(4)))
    return ClusterState(
        config=cluster_values.config(copies=2),
        members=cluster_values.members(5),
        alive=dict.fromkeys(alive, "00" * 8),
        map=SlotMap(rows),
        map_revision=7,
    )


def answers(of: Mapping[str, ShardAnswer]) -> dict[str, ShardAnswer | None]:
    return {f"s{number}": of.get(f"s{number}") for number in range(5)}


REST = answers({"s2": EMPTY, "s3": EMPTY, "s4": EMPTY})
HALF = cluster("s2", "s3", "s4")


def test_slots_that_nobody_has_go_to_whoever_has_least() -> None:
    found = losses(HALF, REST, (0, 1, 2), None)
    assert [(loss.slot, loss.heir, loss.incarnation) for loss in found] == [(0, "s3", ""), (1, "s4", ""), (2, "s3", "")]
    assert found[0].holders == ("s0", "s1")


def test_slots_that_nobody_has_go_where_the_operator_wants() -> None:
    assert [loss.heir for loss in losses(HALF, REST, (0, 1), "s2")] == ["s2", "s2"]


def test_the_older_copy_with_the_most_ops_is_taken() -> None:
    has = answers(
        {
            "s2": ShardAnswer(copies={0: HeldCopy("d2", OpName(4, 90)), 1: HeldCopy("", complete=False)}),
            "s3": ShardAnswer(copies={0: HeldCopy("d3", OpName(4, 91))}),
            "s4": EMPTY,
        }
    )
    assert losses(HALF, has, (0, 1), "s4") == (
        Loss(0, ("s0", "s1"), "s3", "d3", 91),
        Loss(1, ("s0", "s1"), "s4"),
    )


def test_the_older_copy_of_the_newest_epoch_is_taken_however_many_ops_another_has() -> None:
    """An op of a newer epoch follows what was acknowledged before; more ops of an older one were in doubt for ever."""
    has = {**REST, "s2": ShardAnswer(copies={0: HeldCopy("d2", OpName(4, 91))})}
    has["s3"] = ShardAnswer(copies={0: HeldCopy("d3", OpName(5, 90))})
    assert losses(HALF, has, (0,), None) == (Loss(0, ("s0", "s1"), "s3", "d3", 90),)


def test_a_copy_that_was_still_coming_is_not_taken() -> None:
    has = {**REST, "s4": ShardAnswer(copies={0: HeldCopy("d4", OpName(4, 90), complete=False)})}
    assert losses(HALF, has, (0,), None)[0].heir == "s3"


def test_who_was_still_getting_a_copy_begins_no_empty_one() -> None:
    has = {**REST, "s3": ShardAnswer(copies={0: HeldCopy("", complete=False)})}
    assert [loss.heir for loss in losses(HALF, has, (0, 1), None)] == ["s4", "s3"]


def test_an_older_copy_that_waits_to_catch_up_is_complete() -> None:
    """Its shard asks the primary that died, and keeps what it had meanwhile."""
    status = node_pb2.StatusResponse(
        slots=[2],
        epochs=[5],
        copies=[
            node_pb2.CopyStatus(
                slot=0, incarnation=bytes(16), head=node_pb2.OpName(epoch=3, opnum=9, digest=b"d" * 16), joining=True
            ),
            node_pb2.CopyStatus(slot=1, joining=True, clone_bytes=77),
        ],
        disk_full=True,
        takes_no_events=True,
        redundancy=node_pb2.RedundancyStatus(
            single_copy_slot_seconds=1.5, copies_missing=2, clones=3, catch_ups=4, terms_refused=5
        ),
    )
    assert answer_of(status) == ShardAnswer(
        serving={2: 5},
        copies={0: HeldCopy("00" * 16, OpName(3, 9, b"d" * 16)), 1: HeldCopy("", complete=False, clone_bytes=77)},
        disk_full=True,
        takes_no_events=True,
        redundancy=Redundancy(single_copy_s=1.5, copies_missing=2, clones=3, catch_ups=4, terms_refused=5),
    )


def test_an_older_copy_on_a_shard_that_drains_is_better_than_none() -> None:
    members = {**HALF.members, "s4": cluster_values.member(4, wanted=Wanted.DRAINING)}
    state = replace(HALF, members=members)
    has = {**REST, "s4": ShardAnswer(copies={0: HeldCopy("d4", OpName(4, 90))})}
    assert [loss.heir for loss in losses(state, has, (0, 1), None)] == ["s4", "s3"]


def test_a_slot_with_a_live_copy_is_refused() -> None:
    has = {**REST, "s1": ShardAnswer(copies={0: HeldCopy("bb", OpName(4, 9)), 1: HeldCopy("bb", OpName(4, 9))})}
    with pytest.raises(Refused, match="slots 0-1 have a live copy in sync, on s1"):
        losses(cluster("s1", "s2", "s3"), {**has, "s4": None}, (0, 1, 2), None)
    with pytest.raises(Refused, match="slots 0-1 have a live copy"):  # Its lease ran out, but it is there.
        losses(HALF, has, (0, 1), None)


def test_a_slot_that_is_served_is_refused() -> None:
    with pytest.raises(Refused, match="slot 4 has a live copy"):
        losses(HALF, {**REST, "s2": ShardAnswer(serving={4: 3})}, (4,), None)


@pytest.mark.parametrize("silent", ["s1", "s4"])
def test_while_a_live_shard_does_not_answer_nothing_is_given_up(silent: str) -> None:
    """It may have the copy, or an older one."""
    with pytest.raises(Refused, match=f"{silent} is alive by its lease but does not answer"):
        losses(cluster("s2", "s3", silent), {**REST, silent: None}, (0,), None)


def test_a_shard_that_was_emptied_has_no_live_copy() -> None:
    has = {**REST, "s1": EMPTY}
    state = cluster("s1", "s2", "s3", "s4")
    assert losses(state, has, (0,), None)[0].holders == ("s0", "s1")
    assert emptied(state, has, (0,)) == {"s1"}
    assert emptied(HALF, REST, (0,)) == set()


def test_without_an_heir_nothing_is_given_up() -> None:
    with pytest.raises(Refused, match="no active shard is alive and answers"):
        losses(cluster(), answers({}), (0,), None)
    with pytest.raises(Refused, match="s0 can't take slots"):
        losses(HALF, REST, (0,), "s0")
    with pytest.raises(UnknownShard):
        losses(HALF, REST, (0,), "s9")


def test_a_full_disk_begins_slots_only_if_all_are_full() -> None:
    full = ShardAnswer(disk_full=True)
    assert [loss.heir for loss in losses(HALF, {**REST, "s3": full}, (0, 1), None)] == ["s4", "s4"]
    all_full = {**REST, "s2": full, "s3": full, "s4": full}
    assert losses(HALF, all_full, (0,), None)[0].heir == "s3"


def test_the_cost_is_told_with_like_slots_together() -> None:
    found = [
        Loss(3, ("s0", "s1"), "s3"),
        Loss(4, ("s0", "s1"), "s3", "ff", 0),
        Loss(5, ("s0", "s1"), "s4", "dd", 1204),
        Loss(7, ("s0",), "s4"),
    ]
    assert describe_cost(found).splitlines() == [
        "slots 3-5: in sync only on s0 and s1, no longer there; since when is not known",
        "  5: s4 has an older copy (1204 ops); only what came after it is lost",
        "  3-4: s3 begins with nothing; all events that were counted there are lost",
        "slot 7: in sync only on s0, no longer there; since when is not known",
        "  7: s4 begins with nothing; all events that were counted there are lost",
    ]


def test_rows_that_are_given_up_have_one_copy_in_a_new_epoch() -> None:
    seen = Seen(KEYS, HALF, {})
    decided = change(seen, [Loss(1, ("s0", "s1"), "s3", "ee"), Loss(2, ("s0", "s1"), "s4", "dd", 9)])
    (put,) = decided.then
    assert isinstance(put, Put)
    after = SlotMap.from_json(put.value, put.key, 8)
    assert HALF.map is not None
    assert after.rows[1:3] == (SlotRow(6, "s3", {"s3": "ee"}, gave_up=6), SlotRow(6, "s4", {"s4": "dd"}, gave_up=6))
    assert (after.rows[0], *after.rows[3:]) == (HALF.map.rows[0], *HALF.map.rows[3:])
    assert set(decided.guards) == {KEYS.map, *(KEYS.alive_of(shard) for shard in ("s0", "s1", "s3", "s4"))}


def test_nothing_is_given_up_by_a_map_that_is_not_the_newest() -> None:
    """What it calls lost may have moved since."""
    newer = {"s0": ShardAnswer(copies={0: HeldCopy("aa" * 16, epoch=99)})}
    of = cluster_values.state(mapped=True)
    check_map(of, {"s0": ShardAnswer()})
    for state, answers in ((of, newer), (replace(of, config=replace(of.config, recovering=True)), {})):
        with pytest.raises(Refused, match="tally recover"):
            check_map(state, answers)
