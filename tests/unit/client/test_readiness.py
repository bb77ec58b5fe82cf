"""Readiness: why some slot is not served, in words."""

from collections.abc import Mapping

import pytest

from tally.client.readiness import not_serving, reasons
from tally.cluster.slot_map import SlotMap, SlotRow
from tests.support import cluster_values

# Slots 0 to 3: s1 has 0 and 1, s2 has 2, s3 has 3.
ROWS = SlotMap(tuple(SlotRow(2, shard, {shard: "00" * 16}) for shard in ("s1", "s1", "s2", "s3")))
ALL: Mapping[str, Mapping[int, int] | None] = {"s1": {0: 2, 1: 2}, "s2": {2: 2}, "s3": {3: 2}}


@pytest.mark.parametrize(
    ("differs", "expected"),
    [
        ({}, []),
        ({"s1": None}, ["shard s1 does not answer: 2 slots"]),
        ({"s2": None}, ["shard s2 does not answer: slot 2"]),
        ({"s1": {0: 2}}, ["shard s1 does not serve slot 1 yet"]),
        ({"s1": {}}, ["shard s1 does not serve 2 slots yet"]),
        ({"s1": {0: 1, 1: 2}}, ["shard s1 does not serve slot 0 yet"]),  # Still in the epoch before.
        ({"s1": {0: 3, 1: 2}}, []),  # The shard knows a newer map than we do.
        ({"s2": {2: 2, 3: 2}, "s3": {}}, ["shard s3 does not serve slot 3 yet"]),  # Not its slot to serve.
        ({"s3": None, "s1": None}, ["shard s1 does not answer: 2 slots", "shard s3 does not answer: slot 3"]),
    ],
)
def test_each_shard_that_falls_short_has_its_line(
    differs: Mapping[str, Mapping[int, int] | None], expected: list[str]
) -> None:
    assert reasons(ROWS, {**ALL, **differs}) == expected


async def test_cluster_without_a_map_says_how_many_shards_are_there() -> None:
    state = cluster_values.state(alive=("s0",))
    assert await not_serving(state, {}) == ["there is no map yet: 1 of 3 shards are there"]


async def test_shard_that_has_no_address_does_not_answer() -> None:
    state = cluster_values.state(mapped=True)
    assert await not_serving(state, {}) == [
        "shard s0 does not answer: 2 slots",
        "shard s1 does not answer: 3 slots",
        "shard s2 does not answer: 3 slots",
    ]
