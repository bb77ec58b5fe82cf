"""Who is shown as a member, and who may be removed."""

from dataclasses import replace

import pytest

from tally.cluster.etcd import Delete
from tally.cluster.keys import Keys
from tally.cluster.members import Wanted
from tally.cluster.slot_map import SlotMap
from tally.cluster.state import ClusterState
from tally.command.cluster import Refused, Seen, UnknownShard
from tally.command.members import member_reports, removal, render
from tests.support import cluster_values

KEYS = Keys("one")


def seen(state: ClusterState) -> Seen:
    return Seen(KEYS, state, {KEYS.member(shard): 3 for shard in state.members} | {KEYS.map: 7})


def with_s9(*alive: str, wanted: Wanted = Wanted.DRAINING) -> ClusterState:
    """Three members that share the slots, and s9 that has none."""
    whole = cluster_values.state(mapped=True, alive=alive)
    return replace(whole, members={**whole.members, "s9": cluster_values.member(9, wanted=wanted)})


@pytest.mark.parametrize("wanted", list(Wanted))
def test_who_is_off_and_keeps_nothing_is_removed(wanted: Wanted) -> None:
    change = removal(seen(with_s9("s0", wanted=wanted)), "s9")
    assert change.then == (Delete("/tally/one/members/s9"),)
    assert set(change.guards) == {"/tally/one/members/s9", "/tally/one/map", "/tally/one/alive/s9"}


@pytest.mark.parametrize(
    ("state", "shard", "said"),
    [
        (with_s9(), "s0", "s0 keeps 2 copies; first: tally drain s0 --wait"),
        (with_s9("s0"), "s0", "s0 keeps 2 copies; first: tally drain s0 --wait"),
        (with_s9("s9"), "s9", "s9 keeps nothing, but is alive; switch it off first"),
        (with_s9("s9", wanted=Wanted.ACTIVE), "s9", "s9 is alive; first: tally drain s9 --wait, then switch it off"),
    ],
)
def test_who_is_needed_is_refused_with_the_next_command(state: ClusterState, shard: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        removal(seen(state), shard)
    assert str(refused.value) == said


def test_who_is_to_get_a_copy_is_refused() -> None:
    state = with_s9()
    assert state.map is not None
    joining = replace(state, map=SlotMap(state.map.rows, {1: ("s9",)}))
    with pytest.raises(Refused, match="s9 is to get 1 copy; first: tally drain s9 --wait"):
        removal(seen(joining), "s9")


def test_a_member_that_can_not_be_read_can_be_removed() -> None:
    state = cluster_values.state(mapped=True)
    odd = seen(state)._replace(revisions={KEYS.member("odd"): 5})
    assert removal(odd, "odd").then == (Delete(KEYS.member("odd")),)


def test_who_is_no_member_is_told_who_is() -> None:
    with pytest.raises(UnknownShard, match="'s7' is no member of the cluster; members are: s0, s1, s2"):
        removal(seen(cluster_values.state()), "s7")


def test_the_table_says_who_is_drained() -> None:
    assert render(member_reports(with_s9("s0"))).splitlines() == [
        "SHARD  ADDRESS         WANTED    ALIVE  SLOTS  COPIES  JOINING",
        "s0     127.0.0.1:7000  active    yes    2      2       0",
        "s1     127.0.0.1:7001  active    NO     3      3       0",
        "s2     127.0.0.1:7002  active    NO     3      3       0",
        "s9     127.0.0.1:7009  draining  NO     0      0       0",
        "",
        "s9 is drained: it can go: tally members remove s9",
    ]


def test_a_keeper_that_is_no_member_is_shown() -> None:
    whole = cluster_values.state(mapped=True)
    found = member_reports(replace(whole, members={}, alive={}))
    assert [(one.id, one.address, one.wanted, one.drained) for one in found] == [
        (shard, None, "none", False) for shard in ("s0", "s1", "s2")
    ]
