"""Series of joins, drains, deaths and returns: the plan brings every cluster to rest, where its slots are to be."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tally.cluster.planning.health import REPLACED_AFTER_S, SHUNNED_S
from tally.cluster.planning.placement import Target
from tally.cluster.planning.plan import next_step
from tally.cluster.planning.progress import drained, progress
from tally.cluster.planning.ring import Ring
from tally.hashing import Shape
from tests.support.cluster_values import config
from tests.unit.tally.cluster.world import World

SHAPE = Shape(slots=48, spreads=((0, 8),), hours_together=24)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["join", "drain", "kill", "mute", "expire", "start", "wipe", "rest"]), st.integers(0, 99)
    ),
    max_size=12,
)


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
    """All come back, with what stands on their disks."""
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
    elif event == "mute" and living:
        world.answering.discard(living[number % len(living)])
    elif event == "expire" and living:
        world.alive.discard(living[number % len(living)])
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
        assert progress(world.state()).copies_missing == 0
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
