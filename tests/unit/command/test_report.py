"""What ``tally status`` makes of what etcd and the shards say."""

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from tally.cluster.members import ControllerSeat, Wanted
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.cluster.state import ClusterState
from tally.command.report import render_json, render_table, status_report
from tally.command.shards import Answers, HeldCopy, Redundancy, ShardAnswer
from tests.support import cluster_values

ALL_OF_S1 = {0: 1, 3: 1, 6: 1}
SERVED_BY_S1 = dict.fromkeys(range(3, 8), 4)  # Of the cluster that grows.
# What the shards say when all is well; the map's epochs are 1.
ALL: Answers = {
    "s0": ShardAnswer({2: 1, 5: 1}),
    "s1": ShardAnswer(ALL_OF_S1),
    "s2": ShardAnswer({1: 1, 4: 1, 7: 1}),
}


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
    report = status_report(cluster(), {**ALL, "s2": None if s2 is None else ShardAnswer(s2)})
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
    assert value == {
        "controller": "s1",
        "slots": 8,
        "map": True,
        "recovering": False,
        "map_outdated": [],
        "slots_serving": 8,
        "all_serve": True,
        "copies": 1,
        "min_copies": 1,
        "copies_missing": 0,
        "copies_silent": 0,
        "moves": 0,
        "copies_at_place": 8,
        "copies_to_be": 8,
        "not_writable": [],
        "without_live_copy": [],
        "etcd_alarms": [],
        "refusing": {},
    }
    assert shards[0] == {
        "id": "s0",
        "address": "127.0.0.1:7000",
        "wanted": "active",
        "alive": True,
        "slots": 2,
        "serving": 2,
        "copies": 2,
        "joining": 0,
        "redundancy": {"single_copy_s": 0.0, "copies_missing": 0, "clones": 0, "catch_ups": 0, "terms_refused": 0},
        "disk_full": False,
        "takes_no_events": False,
    }
    (silent,) = json.loads(render_json(status_report(cluster(), {**ALL, "s2": None})))["shards"][2:]
    assert silent["redundancy"] is silent["disk_full"] is silent["takes_no_events"] is None


def test_slot_that_is_served_but_refuses_something_is_told_and_not_well() -> None:
    refusing = {3: "writer_forgotten", 0: "writer_forgotten", 6: "few_copies"}
    report = status_report(cluster(), {**ALL, "s1": ShardAnswer(ALL_OF_S1, refusing=refusing)})
    assert report.all_serve
    assert not report.well
    assert report.refusing == {"few_copies": (6,), "writer_forgotten": (0, 3)}
    assert render_table(report).splitlines()[-1] == "refuse something, or did within 10 s (writer_forgotten): slots 0,3"
    assert status_report(cluster(), ALL).well


def test_time_on_a_single_copy_is_told_if_there_was_any() -> None:
    one = ShardAnswer({2: 1, 5: 1}, redundancy=Redundancy(single_copy_s=2.25))
    two = ShardAnswer({0: 1, 3: 1, 6: 1}, redundancy=Redundancy(single_copy_s=40.0))
    text = render_table(status_report(cluster(), {**ALL, "s0": one, "s1": two}))
    told = "on a single copy: for 42.2 slot-seconds since the shards started, most of it on s1 (40.0)"
    assert text.splitlines()[-1] == told


def test_the_table_is_plain_text() -> None:
    assert render_table(status_report(cluster(), {**ALL, "s2": None})).splitlines() == [
        "SHARD  ADDRESS         WANTED  ALIVE  SLOTS  SERVING  COPIES  JOINING",
        "s0     127.0.0.1:7000  active  yes    2      2        2       0",
        "s1     127.0.0.1:7001  active  yes    3      3        3       0",
        "s2     127.0.0.1:7002  active  yes    3      0        3       0",
        "",
        "controller: s1",
        "slots: 5 of 8 are served",
        "copies: 5 of 8 are where they are to be (62 %), 3 missing, 3 on shards that are silent or lack them",
        "take no writes, for too few copies are in sync: slots 1,4,7",
        "  start the shards that are away, or add one; they write again when more copies have joined",
    ]


def test_map_that_must_be_recovered_is_told_with_what_helps() -> None:
    newer = {**ALL, "s1": ShardAnswer({0: 1}, {3: HeldCopy("aa" * 16, epoch=2), 0: HeldCopy("aa" * 16, epoch=1)})}
    report = status_report(cluster(), newer)
    assert report.map_outdated == (3,)
    assert "etcd has an older map than the shards know, of slot 3: it was restored" in render_table(report)
    gone = status_report(replace(cluster(), map=None), newer)
    assert gone.map_outdated == tuple(range(8))
    assert "tally recover --shards" in render_table(gone)
    assert "too few shards" not in render_table(gone)
    assert status_report(replace(cluster(), map=None), ALL).map_outdated == ()
    broken_off = status_report(replace(cluster(), config=replace(cluster().config, recovering=True)), ALL)
    assert "run tally recover again" in render_table(broken_off)


def growing(*alive: str) -> ClusterState:
    """Three copies wanted; slots 0 to 2 only on s0, 3 to 5 on s1 with a floor of two, 6 and 7 on s1 and s2."""
    rows = (
        *(SlotRow(4, "s0", {"s0": "a"}, 1) for _ in range(3)),
        *(SlotRow(4, "s1", {"s1": "b"}, 2) for _ in range(3)),
        *(SlotRow(4, "s1", {"s1": "b", "s2": "c"}, 2) for _ in range(2)),
    )
    return ClusterState(
        config=cluster_values.config(copies=3),
        members=cluster_values.members(3),
        alive=dict.fromkeys(alive, "00" * 8),
        map=SlotMap(rows, {0: ("s1", "s2"), 6: ("s0",)}),
        map_revision=7,
    )


def answering(*shards: str) -> Answers:
    """Let these answer, and serve nothing."""
    return dict.fromkeys(shards, ShardAnswer())


def test_copies_on_killed_shards_are_missing_though_the_map_has_them_all() -> None:
    row = SlotRow(4, "s0", {"s0": "a", "s1": "b", "s2": "c"}, 2)
    whole = replace(cluster(), config=cluster_values.config(copies=3), map=SlotMap((row,) * 8))
    serving = {"s0": ShardAnswer(dict.fromkeys(range(8), 4))}
    assert status_report(whole, {**answering("s1", "s2"), **serving}).well
    report = status_report(whole, {**serving, "s1": None, "s2": None})
    assert (report.all_serve, report.copies_missing, report.copies_silent, report.copies_at_place) == (True, 16, 16, 8)
    assert report.not_writable == tuple(range(8))
    assert not report.well
    text = render_table(report)
    assert (
        "copies: 8 of 24 are where they are to be (33 %), 16 missing, 16 on shards that are silent or lack them" in text
    )
    assert "none missing" not in text


def test_copies_under_way_are_counted_with_their_share() -> None:
    report = status_report(growing("s0", "s1", "s2"), answering("s0", "s1", "s2"))
    assert [(shard.copies, shard.joining) for shard in report.shards] == [(3, 1), (5, 1), (2, 1)]
    assert (report.copies_missing, report.moves) == (14, 3)
    assert (report.copies_at_place, report.copies_to_be) == (10, 24)
    assert "copies: 10 of 24 are where they are to be (41 %), 14 missing, 3 joining now" in render_table(report)


def test_while_a_shard_is_away_no_share_is_told() -> None:
    """Only the controller knows whether it still counts on that shard."""
    report = status_report(growing("s1", "s2"), answering("s1", "s2"))
    assert (report.copies_at_place, report.copies_to_be) == (None, None)
    assert "copies: 17 missing, 3 on shards that are silent or lack them, 3 joining now" in render_table(report)


def test_slots_in_need_are_listed_with_what_helps() -> None:
    text = render_table(status_report(growing("s1", "s2"), answering("s1", "s2"))).splitlines()
    assert text[-6:] == [
        "take no writes, for too few copies are in sync: slots 3-5",
        "  start the shards that are away, or add one; they write again when more copies have joined",
        "  or let them write with one copy: tally config set copies 3 --min-copies 1",
        "without a live copy: slots 0-2",
        "  start a shard that has them, and nothing is lost; only if their disks are gone for good:",
        "  tally give-up --slots 0-2 --accept-data-loss",
    ]


def test_all_is_well_only_while_every_slot_is_served_and_takes_writes() -> None:
    """A slot with too few copies in sync is served all the same: it is read."""
    assert status_report(cluster(), ALL).well
    assert not status_report(cluster(), {**ALL, "s2": None}).well
    assert not status_report(replace(cluster(), config=replace(cluster().config, recovering=True)), ALL).well
    assert not status_report(cluster(), {**ALL, "s1": ShardAnswer(ALL_OF_S1, {3: HeldCopy("aa" * 16, epoch=2)})}).well
    few = growing("s0", "s1", "s2")
    serving = {"s0": ShardAnswer(dict.fromkeys((0, 1, 2), 4)), "s1": ShardAnswer(SERVED_BY_S1)}
    report = status_report(few, {**answering("s2"), **serving})
    assert (report.all_serve, report.without_live_copy, report.not_writable) == (True, (), (3, 4, 5))
    assert not report.well


def test_slots_that_are_lost_are_not_told_twice() -> None:
    """They take no writes either, but other copies would not help them."""
    report = status_report(growing("s0"), answering("s0"))
    assert report.not_writable == (3, 4, 5, 6, 7)
    assert report.without_live_copy == (3, 4, 5, 6, 7)
    assert "take no writes" not in render_table(report)


def test_copies_that_their_shards_do_not_have_are_neither_live_nor_at_their_place() -> None:
    """As when a data directory was deleted: the shard lives, and gets nothing back by itself."""
    state = cluster()
    assert state.map is not None
    rows = state.map.rows

    def having(shard: str, *, but: Mapping[int, HeldCopy | None]) -> ShardAnswer:
        held = {slot: HeldCopy(row.in_sync[shard], epoch=1) for slot, row in enumerate(rows) if shard in row.in_sync}
        copies = {slot: copy for slot, copy in {**held, **but}.items() if copy is not None}
        return ShardAnswer({slot: 1 for slot in held if slot not in but}, copies, map_epochs=(1,) * 8)

    answers = {shard: having(shard, but={}) for shard in state.members}
    report = status_report(state, answers)
    assert (report.without_live_copy, report.copies_at_place, report.copies_to_be) == ((), 8, 8)
    answers["s1"] = having("s1", but={0: None, 3: HeldCopy("ff" * 16, epoch=1), 6: HeldCopy("", complete=False)})
    report = status_report(state, answers)
    assert (report.without_live_copy, report.copies_at_place) == ((0, 3, 6), 5)
    text = render_table(report)
    assert "5 of 8 are where they are to be (62 %)" in text
    assert "without a live copy: slots 0,3,6" in text
    assert status_report(state, {**answers, "s1": None}).without_live_copy == ()  # Who is silent may have all.
    early = replace(answers["s1"], map_epochs=(0,) * 8)  # It is about to begin them.
    assert status_report(state, {**answers, "s1": early}).without_live_copy == ()


def test_slot_with_one_copy_left_is_not_without_one() -> None:
    row = SlotRow(4, "s0", {"s0": "00" * 16, "s1": "01" * 16}, 2)
    state = replace(cluster(), map=SlotMap((row,) * 8))
    empty = ShardAnswer(map_epochs=(4,) * 8)
    held = replace(empty, copies={slot: HeldCopy("01" * 16, epoch=4) for slot in range(8)})
    assert status_report(state, {"s0": empty, "s1": held, "s2": empty}).without_live_copy == ()
    report = status_report(state, {"s0": empty, "s1": empty, "s2": empty})
    assert report.without_live_copy == tuple(range(8))
    assert report.copies_at_place == 0


def test_full_disks_are_told_with_what_to_do_about_them() -> None:
    """A disk that takes no events is full to those who write, though its slots are served and in sync."""
    nearly = ShardAnswer({2: 1, 5: 1}, disk_full=True)
    full = ShardAnswer(ALL_OF_S1, disk_full=True, takes_no_events=True)
    report = status_report(cluster(), {**ALL, "s0": nearly, "s1": full})
    assert render_table(report).splitlines()[-3:] == [
        "the disk of s0 is nearly full: it takes no new copies",
        "the disk of s1 is full: the slots that it is primary of take no writes",
        "  give it more room; what moves to other shards is not freed there (README, Damage)",
    ]
    told = json.loads(render_json(report))["shards"]
    assert [(one["disk_full"], one["takes_no_events"]) for one in told] == [(True, False), (True, True), (False, False)]
    assert not report.well
    assert status_report(cluster(), {**ALL, "s0": nearly}).well


def test_full_etcd_is_told_with_what_to_do_about_it() -> None:
    report = status_report(cluster(), ALL, ("CORRUPT", "NOSPACE"))
    text = render_table(report)
    assert "etcd is full" in text
    assert "etcdctl alarm disarm" in text
    assert "the alarm CORRUPT" in text
    assert "etcd is full" in render_table(status_report(cluster_values.state(), {}, ("NOSPACE",)))
    assert "etcd" not in render_table(status_report(cluster(), ALL))
