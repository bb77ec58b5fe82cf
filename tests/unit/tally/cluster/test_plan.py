"""The rows of the tables in ``plan.py``, ``failover.py``, ``moves.py`` and ``health.py``."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.cluster.members import Wanted
from tally.cluster.op_name import OpName
from tally.cluster.planning.health import COPYLESS_S, HOLD_S, NOT_SERVING_S, SHUNNED_S, SILENT_S
from tally.cluster.planning.moves import CLONES_AT_ONCE, SWITCHES_AT_ONCE
from tally.cluster.planning.placement import first_map
from tally.cluster.planning.plan import next_map, next_step
from tally.cluster.slot_map import SlotMap
from tally.hashing import Shape
from tests.support.cluster_values import config, member, members, state
from tests.unit.tally.cluster.world import World

DRAINING = Wanted.DRAINING


def world(shards: int = 3, copies: int = 3, slots: int = 8) -> World:
    made = World(config(shape=Shape(slots, ((0, 4),)), copies=copies), shards)
    made.plan()
    return made


def rounds(of: World, count: float) -> None:
    for _ in range(int(count)):
        of.round()


@pytest.mark.parametrize(
    ("present", "alive"),
    [
        ({}, ()),
        (members(2), ("s0", "s1")),
        (members(3), ("s0", "s1")),
        (members(3), ("s0", "s1", "s9")),
        (members(2) | {"s2": member(2, wanted=DRAINING)}, ("s0", "s1", "s2")),
    ],
    ids=["nobody", "too few", "one is away", "a stranger is alive", "one is to leave"],
)
def test_first_map_waits_for_enough_shards(present: dict[str, object], alive: tuple[str, ...]) -> None:
    assert next_map(state(of=present, alive=alive)) is None  # type: ignore[arg-type] # They are members.


@pytest.mark.parametrize("copies", [1, 2, 3, 5])
def test_first_map_is_made_of_all_who_are_there_with_all_copies(copies: int) -> None:
    made = next_step(state(of=members(4), conf=config(first_shards=3, copies=copies)), {}, 1.0).map
    assert made == first_map(8, members(4), copies, min(2, copies))
    assert all(len(row.in_sync) == min(copies, 4) for row in made.rows)


def test_first_map_leaves_out_who_is_away_or_to_leave() -> None:
    present = members(4) | {"s4": member(4, wanted=DRAINING)}
    found = next_map(state(of=present, alive=("s0", "s1", "s2", "s4")))
    assert found == first_map(8, members(3))


def test_map_at_rest_stays() -> None:
    at_rest = world()
    plan = at_rest.round()
    assert (plan.map, plan.switches, plan.held) == (None, {}, False)


@pytest.mark.parametrize("still", ["alive", "answering"])
def test_shard_with_a_lease_or_with_an_answer_is_not_dead(still: str) -> None:
    of = world()
    (of.answering if still == "alive" else of.alive).discard("s1")
    assert of.plan().map is None


def test_dead_shard_is_taken_out_of_all_sets_at_once_and_a_live_member_promoted() -> None:
    of = world()
    before = of.map
    of.kill("s1")
    assert of.plan().map is not None
    for old, new in zip(before.rows, of.map.rows, strict=True):
        assert new.in_sync.keys() == {"s0", "s2"}
        assert new.min_copies == 2
        assert new.epoch == old.epoch + (2 if old.primary == "s1" else 1)
    primaries = [row.primary for row in of.map.rows]
    assert abs(primaries.count("s0") - primaries.count("s2")) <= 1


@pytest.mark.parametrize(("s0", "s2"), [((4, 9), (5, 1)), ((5, 1), (5, 2))])
def test_whose_head_is_highest_is_promoted_by_epoch_and_then_by_number(
    s0: tuple[int, int], s2: tuple[int, int]
) -> None:
    of = world()
    mine = [slot for slot, row in enumerate(of.map.rows) if row.primary == "s1"]
    others = {slot: row.primary for slot, row in enumerate(of.map.rows) if row.primary != "s1"}
    for slot in range(8):
        of.heads[slot, "s0"], of.heads[slot, "s2"] = OpName(*s0, b"x" * 16), OpName(*s2, b"a" * 16)
    of.kill("s1")
    of.plan()
    assert {of.map.rows[slot].primary for slot in mine} == {"s2"}
    assert {slot: of.map.rows[slot].primary for slot in others} == others


def test_heads_do_not_count_when_a_primary_hands_over() -> None:
    """It does so between two ops: an answer that came a little later is no reason to give all slots to one shard."""
    of = world(4, copies=3, slots=12)
    of.stopping.add("s1")
    alike = of.plan().switches
    of.heads = {(slot, "s2"): OpName(9, 9, b"x" * 16) for slot in range(12)}
    assert of.plan().switches == alike
    assert len(set(alike.values())) > 1


def test_who_has_no_alive_key_is_promoted_only_if_nobody_else_can_be() -> None:
    """Its lease was not renewed: its disk may take nothing."""
    of = world()
    mine = [slot for slot, row in enumerate(of.map.rows) if row.primary == "s1"]
    of.kill("s1")
    of.alive.discard("s2")
    for slot in mine:
        of.heads[slot, "s2"] = OpName(9, 9, b"x" * 16)
    of.plan()
    assert {of.map.rows[slot].primary for slot in mine} == {"s0"}
    alone = world(2, copies=2)
    alone.alive.clear()
    alone.answering.discard("s1")
    alone.plan()
    assert {row.primary for row in alone.map.rows} == {"s0"}


def test_set_of_dead_copies_stays_as_it_is() -> None:
    of = world(shards=5, copies=2, slots=20)
    of.kill("s0")
    of.kill("s1")
    both = [slot for slot, row in enumerate(of.map.rows) if row.in_sync.keys() == {"s0", "s1"}]
    assert both
    before = of.map
    of.plan()
    for slot in both:
        assert of.map.rows[slot] == before.rows[slot]


def test_dead_primary_without_a_fit_backup_keeps_its_row() -> None:
    """The backup lives, but lost its disk: it must not be promoted, and the dead one may come back."""
    of = world(shards=3, copies=2)
    of.lose_disk("s1")
    of.kill("s0")
    pairs = [slot for slot, row in enumerate(of.map.rows) if row.primary == "s0" and "s1" in row.in_sync]
    assert pairs
    before = of.map
    rounds(of, COPYLESS_S + 2)
    assert all(of.map.rows[slot] == before.rows[slot] for slot in pairs)


def test_nobody_is_taken_out_while_fewer_than_half_live_until_it_is_believed() -> None:
    of = world()
    before = of.map.rows
    of.kill("s1")
    of.kill("s2")
    for _ in range(int(HOLD_S)):
        assert of.round().held
    assert of.map.rows == before
    assert not of.round().held
    assert all(row.in_sync.keys() == {"s0"} and row.primary == "s0" for row in of.map.rows)


def test_half_of_two_are_enough() -> None:
    of = world(shards=2)
    of.kill("s1")
    assert not of.plan().held
    assert all(row.in_sync.keys() == {"s0"} for row in of.map.rows)


def test_copyless_shard_is_believed_after_a_moment_and_taken_out() -> None:
    """An answer can be older than the row."""
    of = world()
    of.lose_disk("s1")
    assert of.plan().map is None
    of.now += COPYLESS_S
    of.plan()
    assert all("s1" not in row.in_sync and row.primary != "s1" for row in of.map.rows)


def test_primary_that_never_serves_is_replaced_and_does_not_get_its_slots_back_so_soon() -> None:
    of = world()
    mine = [slot for slot, row in enumerate(of.map.rows) if row.primary == "s1"]
    of.not_serving.add("s1")
    rounds(of, NOT_SERVING_S)
    assert [of.map.rows[slot].primary for slot in mine] == ["s1"] * len(mine)
    of.round()
    of.not_serving.clear()
    rounds(of, SHUNNED_S - 1)
    assert "s1" not in {of.map.rows[slot].primary for slot in mine}
    of.settle()
    assert [of.map.rows[slot].primary for slot in mine] == ["s1"] * len(mine)


def slots_of(of: World, shard: str) -> list[int]:
    return [slot for slot, row in enumerate(of.map.rows) if row.primary == shard]


def test_shard_that_keeps_its_lease_but_cannot_be_reached_is_replaced_once_and_stays_a_member() -> None:
    of = world(slots=16)
    mine = slots_of(of, "s1")
    of.answering.discard("s1")
    rounds(of, SILENT_S)
    assert slots_of(of, "s1") == mine
    plan = of.plan()
    assert plan.notes == {"slots_failed_over": len(mine), "shards_unreachable": 1}
    assert not slots_of(of, "s1")
    assert all("s1" in of.map.rows[slot].in_sync for slot in mine)
    heirs = [row.primary for row in of.map.rows]
    for answers in (False, True):
        of.answering |= {"s1"} if answers else set()
        for _ in range(60):
            of.round()
            assert [row.primary for row in of.map.rows] == heirs
    assert all("s1" in row.in_sync for row in of.map.rows)
    rounds(of, SHUNNED_S)
    of.settle()
    assert slots_of(of, "s1") == mine


@pytest.mark.parametrize(
    ("shards", "silent", "replaced"),
    [
        (2, ("s1",), True),
        (2, ("s0", "s1"), False),
        (3, ("s0", "s1", "s2"), False),
        (3, ("s1", "s2"), False),
        (4, ("s1", "s2"), True),
        (5, ("s1", "s2", "s3"), False),
    ],
)
def test_unreachable_shard_is_replaced_only_if_more_than_half_of_the_others_answer(
    shards: int, silent: tuple[str, ...], replaced: bool
) -> None:
    of = world(shards=shards, copies=shards, slots=20)
    mine = slots_of(of, "s1")
    of.answering -= set(silent)
    rounds(of, 3 * SILENT_S)
    assert slots_of(of, "s1") == ([] if replaced else mine)


def test_silence_is_counted_from_when_most_others_answer() -> None:
    """Who comes back to a controller that was cut off, some later than others, keeps its slots."""
    of = world()
    mine = slots_of(of, "s1")
    of.answering.clear()
    rounds(of, 3 * SILENT_S)
    of.answering |= {"s0", "s2"}
    rounds(of, SILENT_S)
    assert slots_of(of, "s1") == mine
    of.round()
    assert not slots_of(of, "s1")


def test_new_controller_counts_the_silence_from_its_own_first_look() -> None:
    of = world()
    mine = slots_of(of, "s1")
    of.answering.discard("s1")
    rounds(of, SILENT_S)
    of.memory = None
    rounds(of, SILENT_S)
    assert slots_of(of, "s1") == mine
    of.round()
    assert not slots_of(of, "s1")


def test_shard_that_answers_now_and_then_keeps_its_slots() -> None:
    of = world()
    mine = slots_of(of, "s1")
    for _ in range(5):
        of.answering.discard("s1")
        rounds(of, SILENT_S)
        of.answering.add("s1")
        of.round()
    assert slots_of(of, "s1") == mine


def test_unreachable_shard_keeps_its_slots_while_the_plan_is_held() -> None:
    of = world(shards=5, copies=5, slots=20)
    mine = slots_of(of, "s1")
    for shard in ("s2", "s3", "s4"):
        of.kill(shard)
    of.answering.discard("s1")
    for _ in range(int(HOLD_S)):
        assert of.round().held
    assert slots_of(of, "s1") == mine
    of.round()
    assert not slots_of(of, "s1")


def test_unreachable_shard_with_the_only_copy_keeps_its_row() -> None:
    of = world(copies=1)
    before = of.map
    of.answering.discard("s1")
    rounds(of, 3 * SILENT_S)
    assert of.map == before


def test_drain_of_an_unreachable_shard_comes_to_its_end() -> None:
    of = world(shards=4)
    of.drain("s1")
    of.answering.discard("s1")
    rounds(of, 3 * SILENT_S)
    assert not any("s1" in row.in_sync for row in of.map.rows)


@pytest.mark.parametrize("heir", ["s0", "s2", "s3"])
def test_drained_shard_is_empty_soon_although_who_is_to_have_its_slots_did_not_serve_them(heir: str) -> None:
    of = world(shards=4)
    of.not_serving.add("s1")
    rounds(of, NOT_SERVING_S + 1)
    of.not_serving.clear()
    of.drain(heir)
    rounds(of, SHUNNED_S / 6)
    assert not any(heir in row.in_sync for row in of.map.rows)


def test_stopping_shard_hands_over_and_gets_nothing_back_until_it_is_over() -> None:
    of = world()
    of.stopping.add("s1")
    rounds(of, 2)
    assert not any(row.primary == "s1" for row in of.map.rows)
    assert all("s1" in row.in_sync for row in of.map.rows)
    assert of.round().switches == {}
    of.stopping.clear()
    of.settle()
    assert any(row.primary == "s1" for row in of.map.rows)


def test_clones_are_limited_for_target_and_source() -> None:
    of = world(shards=4, copies=3, slots=64)
    of.join("s4")
    of.join("s5")
    plan = of.plan()
    assert plan.map is not None
    wished = [(shard, of.map.rows[slot].primary) for slot, shards in of.map.joining.items() for shard in shards]
    assert wished
    for side in (0, 1):
        counts = [pair[side] for pair in wished]
        assert max(counts.count(one) for one in counts) <= CLONES_AT_ONCE
    assert of.plan().map is None  # The same wishes, as long as they are under way.


def test_shard_with_a_full_disk_gets_no_new_copies() -> None:
    of = world(shards=4, copies=3, slots=64)
    of.full.add("s4")
    of.join("s4")
    assert of.plan().map is None
    of.full.clear()
    assert of.plan().map is not None


def test_switches_are_limited() -> None:
    of = world(shards=3, copies=3, slots=256)
    of.kill("s1")
    rounds(of, 5)
    of.start("s1")
    counts = [len(of.round().switches) for _ in range(30)]
    assert max(counts) == SWITCHES_AT_ONCE
    assert counts[-1] == 0


def test_switches_of_a_shard_that_stops_are_given_all_at_once() -> None:
    of = world(shards=3, copies=3, slots=256)
    of.stopping.add("s1")
    mine = {slot for slot, row in enumerate(of.map.rows) if row.primary == "s1"}
    assert len(mine) > 2 * SWITCHES_AT_ONCE
    assert of.plan().switches.keys() == mine


def test_nobody_is_taken_out_as_one_too_many_before_the_primary_serves() -> None:
    """What is wanted no more may be all that has what the primary's disk lost."""
    of = world(4, copies=2)
    of.drain("s3")
    while not any(len(row.in_sync) == 3 for row in of.map.rows):
        of.plan()
        for slot, shards in list(of.map.joining.items()):
            for shard in shards:
                of._join(slot, shard)
    before = of.map
    more = [slot for slot, row in enumerate(before.rows) if len(row.in_sync) == 3]
    of.not_serving = {before.rows[slot].primary for slot in more}
    of.plan()
    assert [of.map.rows[slot].in_sync for slot in more] == [before.rows[slot].in_sync for slot in more]
    of.not_serving.clear()
    of.plan()
    assert any(len(of.map.rows[slot].in_sync) == 2 for slot in more)


def test_wish_for_a_shard_that_left_is_withdrawn() -> None:
    of = world(shards=3, copies=3, slots=16)
    of.join("s3")
    of.plan()
    assert of.map.joining
    of.drain("s3")
    of.plan()
    assert not of.map.joining


def test_floor_of_the_rows_follows_the_members() -> None:
    """With two members left one may still be away: so a drain from three to two lowers it."""
    of = world(shards=3, copies=3)
    assert {row.min_copies for row in of.map.rows} == {2}
    of.drain("s2")
    of.settle()
    assert {row.min_copies for row in of.map.rows} == {1}
    assert {len(row.in_sync) for row in of.map.rows} == {2}
    of.members["s2"] = member(2)
    of.settle()
    assert {row.min_copies for row in of.map.rows} == {2}


def test_floor_that_is_lowered_stays_above_the_copies_that_are_left() -> None:
    """One of three copies is left and takes no writes; with a floor of two it takes none either."""
    of = world(shards=4)
    of.config = config(shape=of.config.shape, copies=3).with_copies(3, 3)
    of.settle()
    assert {row.min_copies for row in of.map.rows} == {3}
    alone = [slot for slot, row in enumerate(of.map.rows) if "s1" not in row.in_sync]
    of.kill("s2")
    of.kill("s3")
    of.plan()
    assert {len(of.map.rows[slot].in_sync) for slot in alone} == {1}
    of.config = of.config.with_copies(3, 2)
    of.settle()
    assert {of.map.rows[slot].min_copies for slot in alone} == {2}


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=8, max_size=8),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_floor_is_lowered_to_what_config_and_members_say_and_raised_as_far_as_the_set_goes(
    rows: list[tuple[int, int]], configured: int, draining: int
) -> None:
    of = world(shards=4, copies=4)
    of.config = of.config.with_copies(4, configured)
    of.map = SlotMap(
        tuple(
            replace(row, in_sync={row.primary: row.in_sync[row.primary], **dict(sorted(row.in_sync.items())[:copies])})
            for row, (copies, _) in zip(of.map.rows, rows, strict=True)
        )
    )
    of.map = SlotMap(tuple(replace(row, min_copies=floor) for row, (_, floor) in zip(of.map.rows, rows, strict=True)))
    for number in range(draining):
        of.drain(f"s{number}")
    said = of.config.min_copies_among(4 - draining)
    before = of.map
    of.plan()
    for old, new in zip(before.rows, of.map.rows, strict=True):
        assert new.min_copies >= min(old.min_copies, said)
        assert new.min_copies == min(said, max(old.min_copies, len(old.in_sync)))
