"""All that etcd says of a cluster, parsed; and what a gateway keeps of it on disk."""

import json
from dataclasses import replace

import pytest

from tally.cluster.keys import Keys
from tally.cluster.members import ControllerSeat, Wanted
from tally.cluster.planning.placement import first_map
from tally.cluster.state import ClusterState, KeyValue
from tally.errors import BadClusterData, ClusterMissing
from tests.support.cluster_values import SECRET, config, key_value, member, members, state

KEYS = Keys("t")
CONFIG = key_value(KEYS.config, config().to_json())


def full() -> list[KeyValue]:
    return [
        CONFIG,
        key_value(KEYS.member("s1"), member(1).to_json()),
        key_value(KEYS.member("s0"), member(0, wanted=Wanted.DRAINING).to_json()),
        key_value(KEYS.alive_of("s1"), "00ff" * 4),
        key_value(KEYS.controller, ControllerSeat("s1", "127.0.0.1:7001").to_json(), mod=8, create=6),
        key_value(KEYS.map, first_map(8, members(2)).to_json(), mod=9, create=3),
    ]


def test_every_key_of_a_cluster_is_read() -> None:
    assert ClusterState.from_etcd(KEYS, full()) == ClusterState(
        config=config(),
        members={"s0": member(0, wanted=Wanted.DRAINING), "s1": member(1)},
        alive={"s1": "00ff" * 4},
        controller=ControllerSeat("s1", "127.0.0.1:7001"),
        controller_revision=6,
        map=first_map(8, members(2)),
        map_revision=9,
    )


def test_new_cluster_has_only_its_config() -> None:
    assert ClusterState.from_etcd(KEYS, [CONFIG]) == ClusterState(config=config())


def test_keys_that_a_newer_version_may_add_are_left_alone() -> None:
    later = key_value(f"{KEYS.prefix}wishes", b"\x00")
    assert ClusterState.from_etcd(KEYS, [CONFIG, later]) == ClusterState(config=config())


def test_cluster_without_config_is_missing() -> None:
    with pytest.raises(ClusterMissing, match="tally create --cluster t"):
        ClusterState.from_etcd(KEYS, full()[1:])


@pytest.mark.parametrize("at", [0, 4, 5])
def test_value_that_can_not_be_read_is_named(at: int) -> None:
    found = full()
    found[at] = found[at]._replace(value=b"?")
    with pytest.raises(BadClusterData, match=found[at].key):
        ClusterState.from_etcd(KEYS, found)


def test_member_that_can_not_be_read_is_left_out_and_named() -> None:
    found = full()
    found[1] = found[1]._replace(value=b"?")
    read = ClusterState.from_etcd(KEYS, found)
    assert list(read.members) == ["s0"]
    assert list(read.unreadable) == [KEYS.member("s1")]


@pytest.mark.parametrize("value", [b"?", b"\xff", b"{}", b'{"secret": "0123"}'])
def test_secret_that_can_not_be_read_is_named_and_blinds_nobody(value: bytes) -> None:
    read = ClusterState.from_etcd(KEYS, [*full(), key_value(KEYS.secret, value)])
    assert read.secret is None
    assert list(read.unreadable) == [KEYS.secret]
    assert set(read.members) == {"s0", "s1"}
    assert ClusterState.from_etcd(KEYS, [*full(), key_value(KEYS.secret, SECRET.to_json())]).secret == SECRET


def test_address_of_a_stranger_is_unknown() -> None:
    assert state().address_of("s1") == "127.0.0.1:7101"
    assert state().address_of("s9") is None


def test_shard_that_is_reached_elsewhere_is_so_by_this_process_alone() -> None:
    here = replace(state(), resolve={"s1": "127.0.0.1:9", "s9": "127.0.0.1:9"})
    assert here.address_of("s1") == "127.0.0.1:9"
    assert here.address_of("s9") is None
    assert here.addresses() == {shard: here.address_of(shard) for shard in here.members}
    assert here.members == state().members
    assert here.to_file("default") == state().to_file("default")


@pytest.mark.parametrize("mapped", [False, True])
def test_file_brings_back_all_but_who_is_there(mapped: bool) -> None:
    written = replace(state(mapped=mapped), controller=ControllerSeat("s1", "a:1"), controller_revision=4)
    expected = replace(written, alive={}, controller=None, controller_revision=0)
    assert ClusterState.from_file(written.to_file("default"), "state.json", "default") == expected


def test_file_of_another_cluster_is_refused() -> None:
    """Whoever starts from it would count for that one."""
    with pytest.raises(BadClusterData, match="it is of cluster default, not other"):
        ClusterState.from_file(state().to_file("default"), "state.json", "other")


@pytest.mark.parametrize("change", [{"config": None}, {"map": {}}, {"members": []}, {"map_revision": "x"}])
def test_damaged_file_is_refused_by_its_name(change: dict[str, object]) -> None:
    text = json.dumps(json.loads(state(mapped=True).to_file("default")) | change)
    with pytest.raises(BadClusterData, match=r"state\.json"):
        ClusterState.from_file(text, "state.json", "default")


@pytest.mark.parametrize("text", ["", "{", "{}", "[]"])
def test_cut_off_file_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(BadClusterData, match=r"state\.json"):
        ClusterState.from_file(text, "state.json", "default")
