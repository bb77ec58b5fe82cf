"""How the whole cluster stands, by the map and by what the shards say now."""

from collections.abc import Mapping
from dataclasses import replace

from tally.cluster.members import Wanted
from tally.cluster.planning.standing import Told, standing
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.cluster.state import ClusterState
from tests.support import cluster_values

SHARDS = ("s0", "s1", "s2")
COPIES = {"s0": "0a" * 16, "s1": "1a" * 16, "s2": "2a" * 16}
ROWS = tuple(SlotRow(4, SHARDS[slot % 3], COPIES, 2) for slot in range(8))
STATE = replace(cluster_values.state(conf=cluster_values.config(copies=3)), map=SlotMap(ROWS), map_revision=7)


def told(shard: str, *, refusing: Mapping[int, str] | None = None) -> Told:
    """Say what a shard says that is well: it serves its slots and has all copies."""
    own = {slot: 4 for slot, row in enumerate(ROWS) if row.primary == shard}
    return Told(own, refusing or {}, dict.fromkeys(range(8), COPIES[shard]), (4,) * 8)


ALL = {shard: told(shard) for shard in SHARDS}


def test_whole_cluster_lacks_nothing() -> None:
    found = standing(STATE, ALL)
    assert (found.slots, found.unserved, found.few_copies, found.unwritable, found.refusing) == (8, (), (), (), {})
    assert (found.copies_wanted, found.copies_live, found.copies_missing, found.copies_silent) == (24, 24, 0, 0)


def test_two_of_three_shards_killed_leave_slots_unserved_and_copies_missing_though_the_map_has_them_all() -> None:
    for state in (STATE, replace(STATE, alive={"s1": "00" * 8})):  # Before and after their leases have run out.
        found = standing(state, {"s0": None, "s1": ALL["s1"]})
        assert found.unserved == (0, 2, 3, 5, 6)
        assert (found.copies_wanted, found.copies_live, found.copies_missing, found.copies_silent) == (24, 8, 16, 16)
        assert found.few_copies == found.unwritable == tuple(range(8)), "one copy each, and two are asked for"


def test_one_shard_that_is_away_leaves_enough_copies_for_writes() -> None:
    found = standing(STATE, {**ALL, "s2": None})
    assert (found.unserved, found.few_copies, found.unwritable) == ((2, 5), (), (2, 5))
    assert found.copies_missing == 8


def test_copy_that_its_shard_does_not_have_is_missing_unless_the_row_may_be_news_to_it() -> None:
    without = replace(ALL["s1"], copies={**ALL["s1"].copies, 3: "ff" * 16, 4: ""})
    found = standing(STATE, {**ALL, "s1": without})
    assert (found.copies_missing, found.copies_silent) == (2, 2)
    assert standing(STATE, {**ALL, "s1": replace(without, map_epochs=(3,) * 8)}).copies_missing == 0


def test_what_the_map_itself_lacks_is_missing_too() -> None:
    pair = SlotRow(4, "s0", {"s0": COPIES["s0"]}, 2)
    found = standing(replace(STATE, map=SlotMap((pair, *ROWS[1:]))), ALL)
    assert (found.copies_missing, found.copies_silent, found.few_copies, found.unwritable) == (2, 0, (0,), (0,))


def test_copies_beyond_those_wanted_make_up_for_none_that_another_slot_lacks() -> None:
    members = {**STATE.members, "s2": cluster_values.member(2, wanted=Wanted.DRAINING)}
    few = SlotRow(4, "s0", {"s0": COPIES["s0"]}, 1)
    found = standing(replace(STATE, members=members, map=SlotMap((few, *ROWS[1:]))), ALL)
    assert (found.copies_wanted, found.copies_live, found.copies_missing) == (16, 22, 1)


def test_slots_that_refuse_are_told_by_reason_and_those_that_refuse_all_take_no_events() -> None:
    full = told("s0", refusing={0: "disk_full", 3: "disk_full", 6: "disk_full"})
    other = told("s1", refusing={1: "writer_forgotten"})
    found = standing(STATE, {**ALL, "s0": full, "s1": other})
    assert found.refusing == {"disk_full": (0, 3, 6), "writer_forgotten": (1,)}
    assert (found.unwritable, found.unserved) == ((0, 3, 6), ())


def test_primary_that_serves_in_an_older_epoch_does_not_serve() -> None:
    old = replace(ALL["s0"], serving={0: 3, 3: 4, 6: 5})
    assert standing(STATE, {**ALL, "s0": old}).unserved == (0,)


def test_without_a_map_nothing_is_served_and_all_that_is_wanted_is_missing() -> None:
    found = standing(replace(STATE, map=None), ALL)
    assert (len(found.unserved), len(found.unwritable), found.copies_missing) == (8, 8, 24)
    empty = ClusterState(STATE.config)
    assert standing(empty, {}).copies_missing == 0, "nobody is there yet to have any"
