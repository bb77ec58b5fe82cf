"""Placement: an even share for each shard, of all slots and of any hour."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.cluster.placement import first_map
from tests.support.cluster_values import members

SHARD_COUNTS = range(1, 41)


def primaries(slots: int, shards: int) -> list[str]:
    return [row.primary for row in first_map(slots, members(shards)).rows]


def most_cells_of_an_hour(placed: list[str], spread: int) -> int:
    """Return how many cells of one hour the busiest shard has, wherever the hour begins, round the end too."""
    cells = Counter(placed[:spread])
    most = max(cells.values())
    for first, left in enumerate(placed):
        cells[left] -= 1
        entered = placed[(first + spread) % len(placed)]
        cells[entered] += 1
        most = max(most, cells[entered])
    return most


@pytest.mark.parametrize("shards", SHARD_COUNTS)
@pytest.mark.parametrize("slots", [1, 40, 255, 256, 1000])
def test_no_shard_has_more_than_one_slot_above_its_share(slots: int, shards: int) -> None:
    counts = Counter(primaries(slots, shards))
    assert sum(counts.values()) == slots
    assert max(counts.values()) <= -(-slots // shards)
    assert min(counts[shard] for shard in members(shards)) >= slots // shards


@pytest.mark.parametrize("slots", [255, 256, 1000])
def test_no_shard_has_more_than_half_above_its_share_of_any_hour(slots: int) -> None:
    for shards in SHARD_COUNTS:
        placed = primaries(slots, shards)
        for spread in range(1, min(slots, 256) + 1):
            allowed = -(-3 * spread // (2 * shards))  # ceil(1.5 * spread / shards)
            assert most_cells_of_an_hour(placed, spread) <= allowed, f"{shards} shards, spread {spread}"


@given(st.permutations(sorted(members(7).items())))
def test_order_of_the_members_does_not_matter(shuffled: list[tuple[str, object]]) -> None:
    assert first_map(64, dict(shuffled)) == first_map(64, members(7))  # type: ignore[arg-type] # They are members.


def test_founding_copy_is_known_by_its_data_directory() -> None:
    founders = members(3)
    for row in first_map(8, founders).rows:
        assert row.epoch == 1
        assert row.in_sync == {row.primary: founders[row.primary].directory}
