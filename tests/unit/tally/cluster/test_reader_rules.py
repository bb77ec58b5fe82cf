"""What a reader takes in of what it reads."""

from dataclasses import replace

import pytest

from tally.cluster.reader import take_in
from tally.cluster.rows import add, new_term, with_rows
from tally.cluster.secret import ClusterSecret
from tally.cluster.slot_map import SlotMap
from tally.errors import ClusterReplaced, SecretMissing
from tally.hashing import Shape
from tests.support.cluster_values import config, members, state

KEY = "/tally/t/config"


def test_first_state_is_taken_as_it_is() -> None:
    assert take_in(None, state(), KEY) == state()


HELD = state(mapped=True, map_revision=7)
assert HELD.map is not None
ROW = HELD.map.rows[3]
NEWER = with_rows(HELD.map, {3: new_term(ROW)})
FORKED = with_rows(
    HELD.map, {3: add(replace(ROW, epoch=9), "s9", "09" * 16, 1), 4: replace(ROW, epoch=1, min_copies=2)}
)


@pytest.mark.parametrize("revision", [2, 7, 8])
@pytest.mark.parametrize("found", [HELD.map, NEWER], ids=["same rows", "a newer row"])
def test_same_or_newer_map_is_taken_whatever_its_revision(found: SlotMap, revision: int) -> None:
    """A restored etcd begins its revisions again, and what is written on a map is guarded by what it is there."""
    taken = replace(HELD, map=found, map_revision=revision)
    assert take_in(HELD, taken, KEY) is taken


@pytest.mark.parametrize("found", [None, HELD.map, FORKED], ids=["none", "an older row", "another row of an epoch"])
def test_held_map_outlives_an_older_one_and_none(found: SlotMap | None) -> None:
    held = replace(HELD, map=NEWER)
    read = replace(HELD, map=found, map_revision=9 if found else 0, members=members(4))
    taken = take_in(held, read, KEY)
    assert taken == replace(read, map=NEWER, rolled_back=True)
    assert take_in(taken, replace(read, map=NEWER), KEY) == replace(read, map=NEWER)


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


def test_secret_is_held_while_etcd_has_none_and_exchanged_when_it_has_another() -> None:
    """All follow etcd, whatever it says: so no process is ever left behind with one that nobody else knows."""
    lost, another = replace(state(), secret=None), replace(state(), secret=ClusterSecret.draw())
    assert take_in(state(), lost, KEY) == state()
    assert take_in(state(), another, KEY) is another
    with pytest.raises(SecretMissing, match="tally secret create"):
        take_in(None, lost, KEY)
