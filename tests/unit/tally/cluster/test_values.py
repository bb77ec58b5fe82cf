"""The values in etcd: what is written is read again, and what is not ours is refused with the name of its key."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.cluster.config import ClusterConfig
from tally.cluster.members import ControllerSeat, Member, Wanted
from tally.cluster.secret import ClusterSecret
from tally.cluster.slot_map import SlotMap
from tally.errors import BadClusterData, ConfigError
from tally.hashing import Shape
from tests.support.cluster_values import UUID, config, member, shapes, slot_maps

KEY = "/tally/t/some"


@given(shapes(), st.integers(1, 1024))
def test_config_comes_back_as_it_was_written(shape: Shape, first_shards: int) -> None:
    written = config(shape=shape, first_shards=first_shards)
    assert ClusterConfig.from_json(written.to_json(), KEY) == written


def test_config_of_a_cluster_that_is_being_recovered_says_so_and_others_say_nothing() -> None:
    written = replace(config(), recovering=True)
    assert ClusterConfig.from_json(written.to_json(), KEY) == written
    assert written.with_copies(2).recovering
    assert "recovering" not in config().to_json()
    assert written.differences(config()) == []


@given(slot_maps())
def test_map_comes_back_as_it_was_written(written: SlotMap) -> None:
    assert SlotMap.from_json(written.to_json(), KEY, len(written.rows)) == written


@given(st.text(), st.text(), st.text(), st.sampled_from(Wanted))
def test_member_comes_back_as_it_was_written(address: str, peers: str, directory: str, wanted: Wanted) -> None:
    written = Member(address, peers, directory, wanted)
    assert Member.from_json(written.to_json(), KEY) == written


def test_member_that_an_older_version_wrote_has_its_internal_service_where_it_is_by_default() -> None:
    text = '{"address": "[::1]:9101", "directory": "00", "state": "active"}'
    assert Member.from_json(text, KEY).peer_address == "[::1]:9201"


@pytest.mark.parametrize("address", ["", "s1", "s1:0", "s1:65436"])
def test_member_without_any_address_for_peers_is_refused(address: str) -> None:
    text = json.dumps({"address": address, "directory": "00", "state": "active"})
    with pytest.raises(BadClusterData, match=KEY):
        Member.from_json(text, KEY)


@given(st.text(), st.text())
def test_seat_comes_back_as_it_was_written(shard: str, address: str) -> None:
    assert ControllerSeat.from_json(ControllerSeat(shard, address).to_json(), KEY) == ControllerSeat(shard, address)


READERS: dict[str, Callable[[bytes | str], object]] = {
    "config": lambda text: ClusterConfig.from_json(text, KEY),
    "map": lambda text: SlotMap.from_json(text, KEY, 2),
    "member": lambda text: Member.from_json(text, KEY),
    "seat": lambda text: ControllerSeat.from_json(text, KEY),
    "secret": lambda text: ClusterSecret.from_json(text, KEY),
}


@pytest.mark.parametrize("what", READERS)
@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"7", b'"a"', b"{}", b"\xff\xfe\x00", b'{"format": 2}'])
def test_text_that_is_not_ours_is_refused_with_its_key(what: str, text: bytes) -> None:
    with pytest.raises(BadClusterData, match=KEY):
        READERS[what](text)


CONFIG = json.loads(config().to_json())


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"hash": "md5"},
        {"slots": 0},
        {"slots": "many"},
        {"spread": 4},
        {"spread": [[0, 9]]},
        {"spread": [[0, 4, 1]]},
        {"copies": 0},
        {"copies": 6},
        {"min_copies": 2},
        {"min_copies": 0},
        {"first_shards": 0},
        {"first_shards": None},
    ],
)
def test_config_of_another_version_or_with_impossible_values_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BadClusterData, match=KEY):
        ClusterConfig.from_json(json.dumps(CONFIG | change), KEY)


def row(slot: int = 0, **change: object) -> dict[str, object]:
    return {"slot": slot, "epoch": 1, "primary": "s1", "in_sync": {"s1": "aa"}} | change


@pytest.mark.parametrize(
    "rows",
    [
        [row(0)],
        [row(0), row(1), row(2)],
        [row(1), row(0)],
        [row(0), row(0)],
        [row(0), row(1, epoch=0)],
        [row(0), row(1, primary="s2")],
        [row(0), row(1, in_sync={})],
        [row(0), row(1, in_sync=["s1"])],
        [row(0), row(1, min_copies=0)],
        [row(0), row(1, joining=3)],
        [row(0), {}],
        [row(0), None],
        None,
    ],
)
def test_map_that_breaks_a_rule_or_has_other_slots_is_refused(rows: object) -> None:
    with pytest.raises(BadClusterData, match=KEY):
        SlotMap.from_json(json.dumps({"format": 1, "slots": rows}), KEY, 2)


@pytest.mark.parametrize("change", [{"state": "asleep"}, {"state": None}])
def test_member_in_an_unknown_state_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BadClusterData, match=KEY):
        Member.from_json(json.dumps(json.loads(member(1).to_json()) | change), KEY)


def test_map_has_one_line_for_each_slot() -> None:
    """An operator reads it with etcdctl."""
    text = SlotMap.from_json(json.dumps({"format": 1, "slots": [row(0), row(1)]}), KEY, 2).to_json()
    assert [line for line in text.splitlines() if '"slot"' in line] == [
        '{"slot": 0, "epoch": 1, "primary": "s1", "in_sync": {"s1": "aa"}, "min_copies": 1, "joining": []},',
        '{"slot": 1, "epoch": 1, "primary": "s1", "in_sync": {"s1": "aa"}, "min_copies": 1, "joining": []}',
    ]


def test_differences_name_what_is_fixed_and_nothing_else() -> None:
    mine = config()
    assert mine.differences(config(uuid="f" * 32, first_shards=9)) == []
    other = ClusterConfig(uuid=UUID, shape=Shape(16, ((0, 2), (5, 4)), 1))
    assert mine.differences(other) == [
        "slots is 8, not 16",
        "spread is 4, not ((0, 2), (5, 4))",
        "hours_together is 24, not 1",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"copies": 0},
        {"copies": 6},
        {"min_copies": 0},
        {"copies": 2, "min_copies": 3},
        {"first_shards": 0},
        {"first_shards": 1025},
    ],
)
def test_settings_that_this_version_can_not_keep_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ClusterConfig(uuid=UUID, shape=Shape(), **change)


def test_text_of_a_version_that_kept_one_copy_is_read() -> None:
    written = ClusterConfig.from_json(json.dumps(CONFIG | {"copies": 1, "min_copies": 1}), KEY)
    assert (written.copies, written.min_copies) == (1, 1)
    assert SlotMap.from_json(json.dumps({"format": 1, "slots": [row(0)]}), KEY, 1).rows[0].min_copies == 1


@pytest.mark.parametrize(
    ("copies", "min_copies", "active", "expected"),
    [(3, 2, 1, (1, 1)), (3, 2, 2, (2, 1)), (3, 2, 3, (3, 2)), (3, 2, 9, (3, 2)), (1, 1, 9, (1, 1)), (5, 4, 4, (4, 3))],
)
def test_fewer_members_keep_fewer_copies_and_one_may_be_away(
    copies: int, min_copies: int, active: int, expected: tuple[int, int]
) -> None:
    wanted = ClusterConfig(uuid=UUID, shape=Shape(), copies=copies, min_copies=min_copies)
    assert (wanted.copies_among(active), wanted.min_copies_among(active)) == expected


@pytest.mark.parametrize(
    ("asked", "expected"), [((1,), (1, 1)), ((2,), (2, 2)), ((5,), (5, 2)), ((4, 4), (4, 4)), ((3, 1), (3, 1))]
)
def test_number_of_copies_can_be_changed_later(asked: tuple[int, ...], expected: tuple[int, int]) -> None:
    changed = ClusterConfig(uuid=UUID, shape=Shape()).with_copies(*asked)
    assert (changed.copies, changed.min_copies) == expected


@pytest.mark.parametrize("asked", [(0,), (6,), (2, 3), (2, 0)])
def test_number_of_copies_out_of_range_is_refused(asked: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError):
        ClusterConfig(uuid=UUID, shape=Shape()).with_copies(*asked)
