"""Series of joins, drains, deaths and returns: the plan brings every cluster to rest, where its slots are to be."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tally.cluster.planning.health import REPLACED_AFTER_S, SHUNNED_S
from tally.cluster.planning.moves import CLONES_AT_ONCE
from tally.cluster.planning.placement import Target
from tally.cluster.planning.plan import next_step
from tally.cluster.planning.progress import drained
from tally.cluster.planning.ring import Ring
from tally.hashing import Shape
from tests.support.cluster_values import config
from tests.unit.tally.cluster.world import World

SHAPE = Shape(slots=48, spreads=((0, 8),), hours_together=24)
KINDS = ["join", "drain", "kill", "mute", "expire", "start", "wipe", "fill", "rest"]
EVENTS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 99)), max_size=12)


def check_at_rest(world: World) -> None:
    """Check that the slots are where they are to be, and that nobody has anything left to do."""
    wanted = world.config.copies_among(len(world.active))
    rows = world.map.rows
    assert not world.map.joining
    assert all(len(row.in_sync) == wanted and row.in_sync.keys() <= set(world.active) for row in rows)
    assert all(row.min_copies == world.config.min_copies_among(len(world.active)) for row in rows)
    assert Ring([row.primary for row in rows], world.active, [8]).excess() == 0
    for counts in (Counter(row.primary for row in rows), Counter(shard for row in rows for shard in row.in_sync)):
        assert max(counts.values()) - min(counts[shard] for shard in world.active) <= 1
    here = Target(tuple(row.primary for row in rows), tuple(frozenset(row.in_sync) for row in rows))
    assert world.target() == here
    for memory in (world.memory, None):  # Also for a controller that is new.
        plan = next_step(world.state(), world.health(), world.now, memory)
        assert (plan.map, plan.switches, plan.notes) == (None, {}, {})


def heal(world: World) -> None:
    """All come back, with what stands on their disks, and room for more."""
    world.full.clear()
    for shard in world.members:
        world.start(shard)


def whole(world: World) -> bool:
    """Tell whether each slot has a second copy, on another disk that is as it was."""
    rows = enumerate(world.map.rows)
    return all(sum(world.has_copy(slot, shard) for shard in row.in_sync) > 1 for slot, row in rows)


def happen(world: World, event: str, number: int) -> None:
    living = sorted(world.alive & set(world.active))
    if event == "join" and len(world.members) < 12:
        world.join(f"s{len(world.members)}")
    elif event == "drain" and len(world.active) > 1:
        world.drain(world.active[number % len(world.active)])
    elif event in {"kill", "wipe"} and len(living) > 1:
        shard = living[number % len(living)]
        world.kill(shard)
        # With a second disk the last copy of some slot may be gone, and then nothing brings it back.
        if event == "wipe" and whole(world):
            world.lose_disk(shard)
    elif event in {"mute", "expire", "fill"} and living:
        shard = living[number % len(living)]
        world.answering -= {shard} if event == "mute" else set()
        world.alive -= {shard} if event == "expire" else set()
        world.full |= {shard} if event == "fill" else set()
    elif event == "start":
        heal(world)
    elif event == "rest":
        for _ in range(number):
            world.round()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), EVENTS, st.sampled_from([0, 1, 5]))
def test_any_series_ends_where_the_slots_are_to_be(
    shards: int, copies: int, events: list[tuple[str, int]], forgets_every: int
) -> None:
    """Along the way ``check_planned`` sees every map; here it ends with all shards back, and at rest."""
    world = World(config(shape=SHAPE, copies=copies), shards)
    world.forgets_every = forgets_every
    for event, number in events:
        happen(world, event, number)
        for _ in range(3):
            world.round()
    heal(world)
    world.settle()
    world.forgets_every = 0  # What takes some seconds to be believed is believed by nobody who forgets.
    world.settle()
    world.now += SHUNNED_S  # Who seemed to be stuck gets its slots back after that.
    world.settle()
    check_at_rest(world)
    for shard in world.members:
        assert drained(world.state(), shard) == (shard not in world.active)


@pytest.mark.parametrize("shards", [2, 3, 5])
def test_shard_that_was_away_for_a_minute_comes_back_without_a_clone(shards: int) -> None:
    world = World(config(shape=SHAPE, copies=3), shards)
    world.round()
    before = world.map
    world.kill("s1")
    for _ in range(60):
        world.round()
    assert not any(row.primary == "s1" or "s1" in row.in_sync for row in world.map.rows)
    world.start("s1")
    rounds = world.settle()
    assert world.clones == 0
    assert rounds < 20
    assert [row.primary for row in world.map.rows] == [row.primary for row in before.rows]
    assert [set(row.in_sync) for row in world.map.rows] == [set(row.in_sync) for row in before.rows]


def test_shard_that_comes_back_under_a_new_controller_is_not_cloned_either() -> None:
    world = World(config(shape=SHAPE, copies=3), 5)
    world.kill("s1")
    for _ in range(5):
        world.round()
    world.memory = None  # It was the controller.
    for _ in range(55):
        world.round()
    world.start("s1")
    world.settle()
    check_at_rest(world)
    assert world.clones == 0


def test_dead_shard_is_replaced_after_a_while_and_takes_its_share_when_it_is_back() -> None:
    world = World(config(shape=SHAPE, copies=3), 5)
    world.kill("s1")
    world.settle()
    assert world.clones == 0
    assert all(len(row.in_sync) == 3 - ("s1" in world.target().copies[slot]) for slot, row in enumerate(world.map.rows))
    world.now += REPLACED_AFTER_S
    world.settle()
    assert all(len(row.in_sync) == 3 for row in world.map.rows)
    world.start("s1")
    world.settle()
    check_at_rest(world)


def test_joining_shard_moves_its_share_and_little_more() -> None:
    world = World(config(shape=Shape(), copies=3), 4)
    for number in range(4, 10):
        before = [row.primary for row in world.map.rows]
        world.clones = 0
        world.join(f"s{number}")
        world.settle()
        shards = number + 1
        changed = sum(row.primary != was for row, was in zip(world.map.rows, before, strict=True))
        assert changed <= -(-256 // shards) * 1.25 + 2
        assert world.clones <= 256 * 3 / shards * 1.25 + 6


def test_drained_shard_says_so_only_when_it_holds_nothing() -> None:
    world = World(config(shape=SHAPE, copies=2), 4)
    world.drain("s2")
    rounds = 0
    while not drained(world.state(), "s2"):
        assert all(len(row.in_sync) >= 2 for row in world.map.rows)
        world.round()
        rounds += 1
    assert rounds > 1
    assert not any("s2" in row.in_sync for row in world.map.rows)
    world.settle()
    check_at_rest(world)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 2), (2, 5), (3, 1)])
def test_number_of_copies_can_be_changed_while_it_runs(before: int, after: int) -> None:
    world = World(config(shape=SHAPE, copies=before), 5)
    world.config = world.config.with_copies(after, min(2, after))
    world.settle()
    check_at_rest(world)


def test_two_shards_that_join_at_once_get_their_shares() -> None:
    world = World(config(shape=SHAPE, copies=3), 3)
    world.join("s3")
    world.join("s4")
    for _ in range(3):
        world.round()
    world.join("s5")
    world.settle()
    check_at_rest(world)


def clones_under_way(world: World) -> list[tuple[str, str]]:
    """Return (joiner, source) of each wish."""
    return [(shard, world.map.rows[slot].primary) for slot, shards in world.map.joining.items() for shard in shards]


def world_with_slow_clones_from_s0(copies: int) -> World:
    """Return one that s3 is joining: it is getting two slots of s0, which takes long, and others are still to come."""
    world = World(config(shape=SHAPE, copies=copies), 3)
    world.slow = {slot for slot, row in enumerate(world.map.rows) if row.primary == "s0"}
    world.join("s3")
    while clones_under_way(world) != [("s3", "s0")] * CLONES_AT_ONCE:
        world.round()
    assert missing(world, "s3", from_="s1")
    return world


def missing(world: World, shard: str, *, from_: str) -> list[int]:
    """Return the slots of one primary that a shard is to have, and has not."""
    assert world.memory is not None
    assert world.memory.target is not None
    wanted = zip(world.map.rows, world.memory.target.copies, strict=True)
    return [slot for slot, (row, of) in enumerate(wanted) if row.primary == from_ and shard in of - row.in_sync.keys()]


def test_clones_whose_source_died_keep_no_place() -> None:
    """With one copy nobody else has the slots of s0; s3 gets those of the others all the same."""
    world = world_with_slow_clones_from_s0(copies=1)
    world.kill("s0")
    under_way = world.map.joining
    for _ in range(100):
        world.round()
    assert not missing(world, "s3", from_="s1") + missing(world, "s3", from_="s2")
    assert world.map.joining == under_way  # It may go on with them when s0 is back.
    world.drain("s1")
    for _ in range(100):
        world.round()
    assert drained(world.state(), "s1")
    world.start("s0")
    for _ in range(3):
        world.round()
        assert len(clones_under_way(world)) <= CLONES_AT_ONCE
    world.slow.clear()
    world.settle()
    check_at_rest(world)


def test_clones_stay_under_way_while_their_source_begins_another_term() -> None:
    world = world_with_slow_clones_from_s0(copies=1)
    world.slow = set(range(48))
    under_way = world.map.joining
    world.not_serving.add("s0")
    world.round()
    assert world.map.joining == under_way  # With others in their places, some would be withdrawn when it serves again.
    world.not_serving.clear()
    world.round()
    assert world.map.joining == under_way


def test_clones_to_a_disk_that_became_full_keep_no_place() -> None:
    """What s2 lost it gets again from s0, although s3 was getting as many slots from there as it may."""
    world = world_with_slow_clones_from_s0(copies=2)
    world.slow.clear()
    world.full.add("s3")
    world.lose_disk("s2")
    for _ in range(100):
        world.round()
    assert not missing(world, "s2", from_="s0") + missing(world, "s2", from_="s1")
    assert missing(world, "s3", from_="s0")
    assert not clones_under_way(world)
    world.full.clear()
    world.settle()
    check_at_rest(world)
