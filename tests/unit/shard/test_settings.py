"""Settings of a shard that can't be used are refused by the names of their flag and variable."""

import re
from typing import Any

import pytest

from shard.settings import ShardSettings
from tally.cluster.etcd import EtcdSettings
from tally.cluster.keys import Keys
from tally.errors import ConfigError


def settings(**more: Any) -> ShardSettings:
    return ShardSettings(etcd=EtcdSettings(endpoints=("127.0.0.1:2379",)), keys=Keys("default"), **more)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"shard": "A B"}, "--id (TALLY_ID) is 'A B'; allowed: "),
        ({"listen": "9101"}, "--listen (TALLY_LISTEN) is '9101'; allowed: "),
        ({"listen": "127.0.0.1:0"}, "--listen (TALLY_LISTEN) is '127.0.0.1:0'; allowed: "),
        ({"advertise": "s1"}, "--advertise (TALLY_ADVERTISE) is 's1'; allowed: "),
        (
            {"listen": "0.0.0.0:80"},
            "--advertise (TALLY_ADVERTISE) must be given: host:port that others reach, when listening on 0.0.0.0:80",
        ),
        ({"peer_listen": "9201"}, "--peer-listen (TALLY_PEER_LISTEN) is '9201'; allowed: "),
        ({"peer_listen": "127.0.0.1:0"}, "--peer-listen (TALLY_PEER_LISTEN) is '127.0.0.1:0'; allowed: "),
        (
            {"peer_listen": "127.0.0.1:9101"},
            "--peer-listen (TALLY_PEER_LISTEN) is '127.0.0.1:9101'; allowed: another address than that of --listen",
        ),
        (
            {"listen": "[::1]:65436"},
            "--peer-listen (TALLY_PEER_LISTEN) must be given: host:port, for there is no port 100 above [::1]:65436",
        ),
        ({"peer_advertise": "s1"}, "--peer-advertise (TALLY_PEER_ADVERTISE) is 's1'; allowed: "),
        (
            {"advertise": "s1:65500"},
            "--peer-advertise (TALLY_PEER_ADVERTISE) must be given: host:port, for there is no port 100 above s1:65500",
        ),
        ({"resolve": "s2"}, "--resolve (TALLY_RESOLVE) is 's2'; allowed: "),
        ({"metrics": "9401"}, "--metrics (TALLY_METRICS) is '9401'; allowed: "),
        ({"cache_mib": 3}, "--cache-mib (TALLY_CACHE_MIB) is 3; allowed: 4..65536"),
        ({"lease_s": 1}, "--lease-s (TALLY_LEASE_S) is 1; allowed: 2..300"),
    ],
)
def test_refused_setting_is_named(more: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        settings(**more)


def test_the_address_is_the_one_that_others_reach() -> None:
    assert settings().address == "127.0.0.1:9101"
    assert settings(listen="0.0.0.0:80", advertise="s1:80").address == "s1:80"


@pytest.mark.parametrize(
    ("more", "listens", "reached"),
    [
        ({}, "127.0.0.1:9201", "127.0.0.1:9201"),
        ({"listen": "[::1]:65435"}, "[::1]:65535", "[::1]:65535"),
        ({"listen": "0.0.0.0:9101", "advertise": "s1:7101"}, "0.0.0.0:9201", "s1:7201"),
        ({"listen": "0.0.0.0:9101", "advertise": "s1:7101", "peer_listen": "0.0.0.0:80"}, "0.0.0.0:80", "s1:80"),
        ({"advertise": "s1:65500", "peer_listen": "10.0.0.1:80"}, "10.0.0.1:80", "10.0.0.1:80"),
        ({"peer_listen": "0.0.0.0:80", "peer_advertise": "s1.inside:81"}, "0.0.0.0:80", "s1.inside:81"),
    ],
)
def test_the_internal_service_is_a_hundred_ports_above_the_public_one_unless_it_is_said(
    more: dict[str, Any], listens: str, reached: str
) -> None:
    found = settings(**more)
    assert (str(found.peers), found.peer_address) == (listens, reached)
