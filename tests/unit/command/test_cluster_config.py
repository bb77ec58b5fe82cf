"""What ``tally config`` shows, changes and refuses."""

from dataclasses import replace

import click
import pytest

from tally.cluster.config import ClusterConfig
from tally.cluster.etcd import Put
from tally.cluster.keys import Keys
from tally.cluster.members import Wanted
from tally.cluster.planning.placement import first_map
from tally.cluster.state import ClusterState
from tally.command.cluster import Seen
from tally.command.cluster_config import check_name, render, setting, without_spare
from tally.errors import ConfigError
from tests.support import cluster_values

KEYS = Keys("one")


def seen(copies: int, *, shards: int = 3, mapped: bool = True) -> Seen:
    members = cluster_values.members(shards)
    state = ClusterState(
        config=cluster_values.config(copies=copies),
        members=members,
        map=first_map(8, members, copies) if mapped else None,
    )
    return Seen(KEYS, state, {KEYS.config: 3})


def test_only_the_numbers_of_copies_are_written() -> None:
    before = seen(1)
    change = setting(before, 3, 2)
    (put,) = change.then
    assert isinstance(put, Put)
    after = ClusterConfig.from_json(put.value, put.key)
    assert after == replace(before.state.config, copies=3, min_copies=2)
    assert change.guards == (put.key,) == ("/tally/one/config",)


@pytest.mark.parametrize(
    ("before", "copies", "least", "said"),
    [
        (
            seen(1),
            3,
            2,
            "copies: 1 -> 3, min_copies: 1 -> 2\n16 copies are to be made; see how it goes: tally status",
        ),
        (
            seen(3),
            1,
            None,
            "copies: 3 -> 1, min_copies: 2 -> 1\n16 copies are to be dropped; see how it goes: tally status",
        ),
        (
            seen(1, shards=2),
            3,
            2,
            (
                "copies: 1 -> 3, min_copies: 1 -> 2\n8 copies are to be made; see how it goes: tally status\n"
                "with 2 active shards each slot has 2, and takes writes with 1; more come with more shards"
            ),
        ),
        (
            seen(3),
            3,
            1,
            (
                "copies: 3, min_copies: 2 -> 1\nno copy is to be made or dropped\n"
                "min_copies is 1: what a slot's last copy took is lost with its disk; --min-copies 2 forbids that"
            ),
        ),
        (seen(1, mapped=False), 3, 2, "copies: 1 -> 3, min_copies: 1 -> 2\nthere is no map yet: it is made so"),
        (
            seen(1, shards=1, mapped=False),  # Three are to be there before it is.
            2,
            2,
            (
                "copies: 1 -> 2, min_copies: 1 -> 2\nthere is no map yet: it is made so\n"
                "with min_copies 2 of 2 copies, one shard that is away stops the writes of its slots; "
                "one copy more, or min_copies 1, prevents that"
            ),
        ),
        (seen(1), 1, None, "copies is 1, min_copies is 1, as it was"),
        (
            seen(1),
            2,
            2,
            (
                "copies: 1 -> 2, min_copies: 1 -> 2\n8 copies are to be made; see how it goes: tally status\n"
                "with min_copies 2 of 2 copies, one shard that is away stops the writes of its slots; "
                "one copy more, or min_copies 1, prevents that"
            ),
        ),
    ],
)
def test_what_comes_of_it_is_said(before: Seen, copies: int, least: int | None, said: str) -> None:
    assert setting(before, copies, least).text == said


@pytest.mark.parametrize(
    ("copies", "least", "shards", "warned"),
    [
        (1, 1, 3, False),  # Nobody expects anything else of a single copy.
        (2, 2, 2, False),  # With two shards min_copies counts as 1.
        (2, 2, 3, True),
        (2, 1, 3, False),
        (3, 3, 3, False),  # With three it counts as 2.
        (3, 3, 4, True),
        (3, 2, 4, False),
    ],
)
def test_config_that_lets_no_shard_be_away_is_warned_of(copies: int, least: int, shards: int, warned: bool) -> None:
    config = replace(cluster_values.config(copies=copies), min_copies=least)
    assert bool(without_spare(config, shards)) is warned


def test_shards_that_drain_keep_no_copies() -> None:
    before = seen(1)
    members = {**before.state.members, "s2": cluster_values.member(2, wanted=Wanted.DRAINING)}
    change = setting(before._replace(state=replace(before.state, members=members)), 3, 2)
    assert "with 2 active shards each slot has 2, and takes writes with 1" in change.text


@pytest.mark.parametrize(("copies", "least"), [(0, None), (6, None), (3, 4), (3, 0)])
def test_numbers_out_of_range_are_refused(copies: int, least: int | None) -> None:
    with pytest.raises(ConfigError, match=r"allowed: 1\.\."):
        setting(seen(1), copies, least)


@pytest.mark.parametrize("name", ["slots", "spread", "hours_together", "hours-together", "uuid", "hash"])
def test_what_is_fixed_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(click.UsageError, match=r"is fixed for the life of the cluster: .+ tally create"):
        check_name(name)


def test_other_names_are_refused_with_what_there_is() -> None:
    with pytest.raises(click.UsageError, match="what can be set is copies"):
        check_name("colour")
    with pytest.raises(click.UsageError, match="tally config set copies N --min-copies M"):
        check_name("min-copies")
    check_name("copies")


def test_the_table_says_what_can_be_changed() -> None:
    lines = render(cluster_values.config(copies=3)).splitlines()
    assert lines[0].split() == ["SETTING", "VALUE", "CHANGED", "BY"]
    assert lines[1].split(maxsplit=2) == ["copies", "3", "tally config set copies N"]
    assert lines[4].split() == ["spread", "4", "fixed"]
