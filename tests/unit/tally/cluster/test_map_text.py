"""A map is written plainly as long as etcd takes that, and with a table of shards beyond it."""

import json
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.cluster.config import COPIES_MAX, FIRST_SHARDS_MAX
from tally.cluster.map_text import PACKED_BYTES_MAX, PLAIN_BYTES_MAX, rows_of, text_of
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.errors import BadClusterData, MapTooLarge
from tally.hashing import SLOTS_MAX

KEY: Final = "/tally/default/map"
ETCD_BYTES_MAX: Final = 1_572_864
ID_CHARACTERS: Final = 63


def shard(number: int) -> str:
    return f"s{number:0{ID_CHARACTERS - 1}}"


def large_map(slots: int, copies: int, *, shards: int = FIRST_SHARDS_MAX, joining: int = 0) -> SlotMap:
    """Return a map whose rows are as long as they may be."""

    def row(slot: int) -> SlotRow:
        names = [shard((slot * copies + place) % shards) for place in range(copies)]
        return SlotRow(10**9 + copies, names[0], dict.fromkeys(names, f"{slot:032x}"), copies)

    wishes = {slot: tuple(shard(place) for place in range(joining)) for slot in range(slots)} if joining else {}
    return SlotMap(tuple(row(slot) for slot in range(slots)), wishes)


@pytest.mark.parametrize("copies", [3, COPIES_MAX, COPIES_MAX + 1])
def test_the_largest_cluster_that_can_be_made_has_a_map_that_etcd_takes(copies: int) -> None:
    """While copies move, a slot has one more than it is to have."""
    slot_map = large_map(SLOTS_MAX, copies, joining=2)
    text = slot_map.to_json()
    assert len(text.encode()) <= PACKED_BYTES_MAX < ETCD_BYTES_MAX - 2 * FIRST_SHARDS_MAX
    assert SlotMap.from_json(text, KEY, SLOTS_MAX) == slot_map


def test_a_map_that_etcd_takes_plainly_stays_plain() -> None:
    slot_map = large_map(256, 5, joining=1)
    text = slot_map.to_json()
    assert text.splitlines()[0] == '{"format": 1, "slots": ['
    assert json.loads(text)["slots"][7]["primary"] == shard(35)
    assert SlotMap.from_json(text, KEY, 256) == slot_map


def test_a_map_that_grows_and_shrinks_changes_its_form_where_it_must() -> None:
    forms = []
    for copies in (1, 2, 3, 4, 3, 2, 1):
        slot_map = large_map(4096, copies)
        text = slot_map.to_json()
        assert SlotMap.from_json(text, KEY, 4096) == slot_map
        forms.append(json.loads(text)["format"])
        assert (forms[-1] == 1) == (len(text) <= PLAIN_BYTES_MAX and '"slot": 0' in text)
    assert forms == [1, 2, 2, 2, 2, 2, 1]


def test_a_map_that_etcd_takes_in_no_form_is_refused_with_the_reason() -> None:
    with pytest.raises(MapTooLarge, match=r"^the map would have [0-9,]+ bytes, and etcd takes 1,500,000: keep fewer"):
        large_map(SLOTS_MAX, 8).to_json()


def test_what_is_added_to_rows_survives_packing() -> None:
    rows = [
        {"slot": slot, "epoch": 1, "primary": shard(0), "in_sync": {shard(0): "aa"}, "min_copies": 1, "joining": []}
        | ({"given_up": 7} if slot == 3 else {})
        for slot in range(10_000)
    ]
    value = json.loads(text_of(rows))
    assert value["format"] == 2
    assert rows_of(value, KEY) == rows


NAMES: Final = st.integers(0, 5).map(shard)
ROW: Final = st.fixed_dictionaries(
    {
        "epoch": st.integers(1, 2**40),
        "primary": NAMES,
        "in_sync": st.dictionaries(NAMES, st.text("0123456789abcdef", max_size=32)),
        "min_copies": st.integers(1, 5),
        "joining": st.lists(NAMES, unique=True),
    }
)


@given(drawn=st.lists(ROW))
def test_packing_loses_nothing(drawn: list[dict[str, object]]) -> None:
    rows = [{"slot": slot, **row} for slot, row in enumerate(drawn)]
    value = json.loads(text_of(rows, plain_bytes_max=0))
    assert value["format"] == 2
    assert rows_of(value, KEY) == rows


@pytest.mark.parametrize(
    "change",
    [
        {"shards": []},
        {"shards": None},
        {"slots": [{"e": 1, "p": 1, "c": {"1": "aa"}, "m": 1}]},
        {"slots": [{"e": 1, "p": -1, "c": {"-1": "aa"}, "m": 1}]},
        {"slots": [{"e": 1, "p": "s", "c": {"0": "aa"}, "m": 1}]},
        {"slots": [{"e": 1, "p": 0, "c": {}, "m": 1}]},
        {"slots": [7]},
        {"format": 3},
    ],
)
def test_a_packed_map_that_somebody_wrote_wrongly_is_told(change: dict[str, object]) -> None:
    good = {"format": 2, "shards": ["s1"], "slots": [{"e": 1, "p": 0, "c": {"0": "aa"}, "m": 1}]}
    assert SlotMap.from_json(json.dumps(good), KEY, 1) == SlotMap((SlotRow(1, "s1", {"s1": "aa"}),))
    with pytest.raises(BadClusterData, match=KEY):
        SlotMap.from_json(json.dumps(good | change), KEY, 1)
