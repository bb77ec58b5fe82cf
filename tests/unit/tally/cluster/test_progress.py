"""What status says of moves and drains."""

from dataclasses import replace

from tally.cluster.members import Wanted
from tally.cluster.planning.progress import drained, progress
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.cluster.state import ClusterState
from tests.support.cluster_values import config, member, members

ROWS = (
    SlotRow(3, "s0", {"s0": "a", "s1": "b"}, 2),
    SlotRow(4, "s1", {"s1": "c"}, 2),
    SlotRow(4, "s2", {"s2": "d", "s1": "e"}, 2),
    SlotRow(4, "s9", {"s9": "f"}, 1),
)
STATE = ClusterState(
    config(copies=3),
    members(3) | {"s3": member(3, wanted=Wanted.DRAINING)},
    {"s0": "00", "s1": "00", "s3": "00"},
    map=SlotMap(ROWS, {1: ("s0", "s2")}),
    map_revision=1,
)


def test_what_is_under_way_and_without_a_live_copy_is_counted() -> None:
    found = progress(STATE)
    assert found.moves == 2
    assert found.without_live_copy == (3,)


def test_each_shard_has_its_line_also_a_stranger_that_keeps_something() -> None:
    shards = progress(STATE).shards
    assert list(shards) == ["s0", "s1", "s2", "s3", "s9"]
    assert (shards["s1"].primaries, shards["s1"].copies, shards["s1"].joining) == (1, 3, 0)
    assert (shards["s0"].joining, shards["s2"].joining) == (1, 1)
    assert (shards["s0"].share, shards["s3"].share) == (4.0, 0.0)
    assert [name for name, one in shards.items() if one.alive] == ["s0", "s1", "s3"]


def test_drained_is_who_drains_and_keeps_nothing_and_gets_nothing() -> None:
    assert [name for name, one in progress(STATE).shards.items() if one.drained] == ["s3"]
    assert not drained(STATE, "s9")
    getting = replace(STATE, map=SlotMap(ROWS, {1: ("s3",)}))
    assert not drained(getting, "s3")
    assert not progress(getting).shards["s3"].drained


def test_cluster_without_a_map_has_nothing_under_way() -> None:
    empty = replace(STATE, map=None)
    found = progress(empty)
    assert found.moves == 0
    assert drained(empty, "s3")
