"""Slots as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.command.slot_list import compressed, named_slots, parse_slots
from tally.errors import ConfigError


@given(st.sets(st.integers(0, 255), min_size=1))
def test_what_is_shown_can_be_typed_in_again(slots: set[int]) -> None:
    assert parse_slots(compressed(slots), 256) == tuple(sorted(slots))


def test_runs_are_joined() -> None:
    assert compressed([12, 3, 4, 5, 7, 7]) == "3-5,7,12"
    assert named_slots([3]) == "slot 3"
    assert named_slots([3, 4]) == "slots 3-4"


def test_spaces_and_overlaps_do_no_harm() -> None:
    assert parse_slots("3-5, 4-6,3", 8) == (3, 4, 5, 6)


@pytest.mark.parametrize("text", ["", "a", "5-3", "3-", "-3", "8", "0-8", "1,,2", "1;2", "²"])
def test_what_names_no_slots_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"0\.\.7"):
        parse_slots(text, 8)
