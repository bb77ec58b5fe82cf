"""Settings that can't be used are refused by the names of their flag and variable."""

import re
from typing import Any

import pytest

from gateway.settings import GatewaySettings
from gateway.workers import end_s_max
from tally.cluster.etcd import EtcdSettings
from tally.cluster.keys import Keys
from tally.errors import ConfigError


def settings(**more: Any) -> GatewaySettings:
    return GatewaySettings(etcd=EtcdSettings(endpoints=("127.0.0.1:2379",)), keys=Keys("default"), **more)


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_address(listen: str, address: tuple[str, int]) -> None:
    assert settings(listen=listen).address == address


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen", "8080"),
        ("listen", "127.0.0.1:65536"),
        ("listen", "http://127.0.0.1:80"),
        ("resolve", "s1=7001"),
        ("queue_events", 0),
        ("slot_queue_events", 10_001),
        ("reads_waiting", 0),
        ("deadline_s", 0),
        ("deadline_s", float("nan")),
        ("header_timeout_s", 0),
        ("idle_timeout_s", -1),
        ("connections", 0),
    ],
)
def test_refused_setting_is_named(name: str, value: object) -> None:
    flag = "--" + name.replace("_", "-")
    with pytest.raises(ConfigError, match=re.escape(f"{flag} (TALLY_{name.upper()}) is ")):
        settings(**{name: value})


@pytest.mark.parametrize("deadline_s", [0.1, 8.0, 60.0])
def test_worker_is_not_killed_before_its_last_requests_had_their_time(deadline_s: float) -> None:
    given = settings(deadline_s=deadline_s)
    assert end_s_max(given) > given.finish_s > deadline_s
