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
