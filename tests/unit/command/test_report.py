"""What ``tally status`` makes of what etcd says."""

import json

from tally.cluster.members import ControllerSeat, Wanted
from tally.cluster.state import ClusterState
from tally.command.report import render_json, render_table, status_report
from tests.support import cluster_values


def serving() -> ClusterState:
    whole = cluster_values.state(mapped=True)
    return ClusterState(
        config=whole.config,
        members=whole.members,
        alive=whole.alive,
        controller=ControllerSeat("s1", "127.0.0.1:7001"),
        map=whole.map,
    )


def test_all_slots_serve_while_every_primary_is_alive() -> None:
    report = status_report(serving())
    assert report.all_serve
    assert report.slots_serving == report.slots == 8
    assert [(shard.id, shard.slots) for shard in report.shards] == [("s0", 2), ("s1", 3), ("s2", 3)]


def test_slots_of_a_dead_primary_do_not_serve() -> None:
    report = status_report(cluster_values.state(mapped=True, alive=("s0", "s1")))
    assert not report.all_serve
    assert report.slots_serving == 5
    assert [shard.alive for shard in report.shards] == [True, True, False]


def test_a_dead_shard_without_slots_is_shown_but_hinders_nobody() -> None:
    whole = cluster_values.state(mapped=True)
    more = {**whole.members, "s9": cluster_values.member(9, wanted=Wanted.DRAINING)}
    report = status_report(ClusterState(config=whole.config, members=more, alive=whole.alive, map=whole.map))
    assert report.all_serve
    assert (report.shards[-1].id, report.shards[-1].wanted, report.shards[-1].slots) == ("s9", "draining", 0)


def test_without_a_map_nothing_serves() -> None:
    report = status_report(cluster_values.state())
    assert not report.map
    assert not report.all_serve
    assert "not shared out yet" in render_table(report)


def test_a_primary_that_is_no_member_is_shown() -> None:
    whole = cluster_values.state(mapped=True)
    report = status_report(ClusterState(config=whole.config, map=whole.map))
    assert [(shard.id, shard.address, shard.wanted) for shard in report.shards] == [
        ("s0", None, "none"),
        ("s1", None, "none"),
        ("s2", None, "none"),
    ]


def test_json_has_the_documented_fields() -> None:
    value = json.loads(render_json(status_report(serving())))
    shards = value.pop("shards")
    assert value == {"controller": "s1", "slots": 8, "map": True, "slots_serving": 8, "all_serve": True}
    assert shards[0] == {"id": "s0", "address": "127.0.0.1:7000", "wanted": "active", "alive": True, "slots": 2}


def test_the_table_is_plain_text() -> None:
    assert render_table(status_report(serving())).splitlines() == [
        "SHARD  ADDRESS         WANTED  ALIVE  SLOTS",
        "s0     127.0.0.1:7000  active  yes    2",
        "s1     127.0.0.1:7001  active  yes    3",
        "s2     127.0.0.1:7002  active  yes    3",
        "",
        "controller: s1",
        "slots: 8 of 8 have a primary that is alive",
    ]
