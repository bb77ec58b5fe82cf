"""What ``tally status`` makes of what etcd and the shards say."""

import json
from collections.abc import Mapping

import pytest

from tally.cluster.members import ControllerSeat, Wanted
from tally.cluster.state import ClusterState
from tally.command.report import render_json, render_table, status_report
from tests.support import cluster_values

Serving = Mapping[str, Mapping[int, int] | None]

# What the shards say when all is well; the map's epochs are 1.
ALL: Serving = {"s0": {2: 1, 5: 1}, "s1": {0: 1, 3: 1, 6: 1}, "s2": {1: 1, 4: 1, 7: 1}}


def cluster() -> ClusterState:
    whole = cluster_values.state(mapped=True)
    return ClusterState(
        config=whole.config,
        members=whole.members,
        alive=whole.alive,
        controller=ControllerSeat("s1", "127.0.0.1:7001"),
        map=whole.map,
    )


def test_all_serve_while_every_slot_is_served_by_its_primary() -> None:
    report = status_report(cluster(), ALL)
    assert report.all_serve
    assert report.slots_serving == report.slots == 8
    assert [(shard.id, shard.slots, shard.serving) for shard in report.shards] == [
        ("s0", 2, 2),
        ("s1", 3, 3),
        ("s2", 3, 3),
    ]


@pytest.mark.parametrize(
    ("s2", "serving"),
    [
        (None, 0),  # It does not answer.
        ({}, 0),
        ({1: 1, 4: 1}, 2),
        ({1: 1, 4: 1, 0: 1}, 2),  # Slot 0 is another one's.
        ({1: 0, 4: 1, 7: 1}, 2),  # Still in the epoch before.
        ({1: 2, 4: 1, 7: 1}, 3),  # It knows a newer map than we do.
    ],
)
def test_a_shard_whose_lease_stands_need_not_serve(s2: Mapping[int, int] | None, serving: int) -> None:
    report = status_report(cluster(), {**ALL, "s2": s2})
    assert report.shards[2].alive
    assert (report.shards[2].slots, report.shards[2].serving) == (3, serving)
    assert report.slots_serving == 5 + serving
    assert report.all_serve == (serving == 3)


def test_a_shard_whose_lease_ran_out_may_serve() -> None:
    report = status_report(cluster_values.state(mapped=True, alive=("s0", "s1")), ALL)
    assert [shard.alive for shard in report.shards] == [True, True, False]
    assert report.all_serve


def test_a_dead_shard_without_slots_is_shown_but_hinders_nobody() -> None:
    whole = cluster_values.state(mapped=True)
    more = {**whole.members, "s9": cluster_values.member(9, wanted=Wanted.DRAINING)}
    state = ClusterState(config=whole.config, members=more, alive=whole.alive, map=whole.map)
    report = status_report(state, {**ALL, "s9": None})
    assert report.all_serve
    assert (report.shards[-1].id, report.shards[-1].wanted, report.shards[-1].slots) == ("s9", "draining", 0)


def test_without_a_map_nothing_serves() -> None:
    report = status_report(cluster_values.state(), {})
    assert not report.map
    assert not report.all_serve
    assert "not shared out yet" in render_table(report)


def test_a_primary_that_is_no_member_is_shown() -> None:
    whole = cluster_values.state(mapped=True)
    report = status_report(ClusterState(config=whole.config, map=whole.map), {})
    assert [(shard.id, shard.address, shard.wanted) for shard in report.shards] == [
        ("s0", None, "none"),
        ("s1", None, "none"),
        ("s2", None, "none"),
    ]


def test_json_has_the_documented_fields() -> None:
    value = json.loads(render_json(status_report(cluster(), ALL)))
    shards = value.pop("shards")
    assert value == {"controller": "s1", "slots": 8, "map": True, "slots_serving": 8, "all_serve": True}
    assert shards[0] == {
        "id": "s0",
        "address": "127.0.0.1:7000",
        "wanted": "active",
        "alive": True,
        "slots": 2,
        "serving": 2,
    }


def test_the_table_is_plain_text() -> None:
    assert render_table(status_report(cluster(), {**ALL, "s2": None})).splitlines() == [
        "SHARD  ADDRESS         WANTED  ALIVE  SLOTS  SERVING",
        "s0     127.0.0.1:7000  active  yes    2      2",
        "s1     127.0.0.1:7001  active  yes    3      3",
        "s2     127.0.0.1:7002  active  yes    3      0",
        "",
        "controller: s1",
        "slots: 5 of 8 are served",
    ]
