"""The rows of the table in ``plan.py``."""

import pytest

from tally.cluster.members import Wanted
from tally.cluster.placement import first_map
from tally.cluster.plan import next_map
from tests.support.cluster_values import config, member, members, state

DRAINING = Wanted.DRAINING


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


def test_first_map_is_made_of_all_who_are_there() -> None:
    assert next_map(state(of=members(4), conf=config(first_shards=3))) == first_map(8, members(4))


def test_first_map_leaves_out_who_is_away_or_to_leave() -> None:
    present = members(4) | {"s4": member(4, wanted=DRAINING)}
    found = next_map(state(of=present, alive=("s0", "s1", "s2", "s4")))
    assert found == first_map(8, members(3))


@pytest.mark.parametrize("alive", [(), ("s0",), ("s0", "s1", "s2")])
def test_map_that_is_there_stays(alive: tuple[str, ...]) -> None:
    assert next_map(state(mapped=True, alive=alive)) is None


def test_plan_on_its_own_result_is_nothing_to_do() -> None:
    before = state()
    planned = next_map(before)
    assert planned is not None
    assert next_map(state(mapped=True)) is None
