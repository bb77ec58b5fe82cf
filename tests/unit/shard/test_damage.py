"""Which damaged databases may be set aside: those whose slots somebody else has."""

import dataclasses

from shard.storage.damage import only_here
from tally.cluster.identity import Identity
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.errors import DataDamaged
from tally.hashing import Shape

IDENTITY = Identity("cluster", "s1", "ab" * 16, Shape(slots=2, spreads=((0, 2),), hours_together=1), founded=True)
NEW = dataclasses.replace(IDENTITY, founded=False)


def held(*sets: str) -> SlotMap:
    """Return a map: for each slot the shards of its set, the primary first."""
    return SlotMap(tuple(SlotRow(1, shards.split()[0], dict.fromkeys(shards.split(), "cd" * 16)) for shards in sets))


def test_slots_that_another_shard_has_too_are_not_only_here() -> None:
    assert only_here(held("s1 s2", "s2 s1", "s3"), IDENTITY) == []


def test_slot_that_only_this_shard_has_is_only_here_whichever_copy_the_map_names() -> None:
    assert only_here(held("s1 s2", "s1", "s2", "s1"), IDENTITY) == [1, 3]


def test_wish_to_join_is_no_copy() -> None:
    assert only_here(SlotMap(held("s1").rows, {0: ("s2",)}), IDENTITY) == [0]


def test_without_a_map_nobody_knows_who_else_has_what_was_founded() -> None:
    assert only_here(None, IDENTITY) == [0, 1]
    assert only_here(None, NEW) == []


def test_refusal_names_slots_reason_and_both_ways_out() -> None:
    said = str(DataDamaged("data/s1", "RocksDB: Corruption", list(range(30))))
    for part in (
        "data/s1",
        "RocksDB: Corruption",
        "0, 1, 2",
        "19 and 10 more",
        "--set-damaged-aside",
        "give-up",
        "disk",
    ):
        assert part in said
