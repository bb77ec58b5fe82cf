"""What a reader takes in of what it reads."""

from dataclasses import replace

import pytest

from tally.cluster.reader import take_in
from tally.errors import ClusterReplaced
from tally.hashing import Shape
from tests.support.cluster_values import config, members, state

KEY = "/tally/t/config"


def test_first_state_is_taken_as_it_is() -> None:
    assert take_in(None, state(), KEY) == state()


@pytest.mark.parametrize("revision", [7, 8])
def test_same_or_newer_map_is_taken(revision: int) -> None:
    found = state(mapped=True, map_revision=revision, of=members(4))
    assert take_in(state(mapped=True, map_revision=7), found, KEY) is found


@pytest.mark.parametrize("mapped", [False, True])
def test_held_map_outlives_an_older_one_and_none(mapped: bool) -> None:
    held = state(mapped=True, map_revision=7)
    found = state(mapped=mapped, map_revision=6, of=members(4))
    assert take_in(held, found, KEY) == replace(found, map=held.map, map_revision=7)


def test_first_map_replaces_none() -> None:
    found = state(mapped=True, map_revision=1)
    assert take_in(state(), found, KEY) is found


def test_cluster_that_was_made_anew_is_refused() -> None:
    found = replace(state(), config=config(uuid="f" * 32))
    with pytest.raises(ClusterReplaced, match="uuid"):
        take_in(state(), found, KEY)


def test_cluster_whose_shape_was_changed_is_refused() -> None:
    found = replace(state(), config=config(shape=Shape(16, ((0, 4),), 24)))
    with pytest.raises(ClusterReplaced, match="slots is 16, not 8"):
        take_in(state(), found, KEY)


def test_what_an_operator_may_change_is_taken() -> None:
    found = replace(state(), config=config(first_shards=9))
    assert take_in(state(), found, KEY) is found
