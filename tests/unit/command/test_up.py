"""The pure parts of ``tally up``."""

import signal
from itertools import count
from pathlib import Path

import pytest

from tally.address import Address
from tally.command.addresses import url_of
from tally.command.machine_run import obituary, things_to_try, what_runs
from tally.command.processes import Ended, how_it_ended
from tally.command.programs import Machine, shard_names, stages
from tally.command.remembered import choose_ports
from tally.errors import ConfigError

PORTS = {"etcd": 4001, "etcd-peer": 4002, "s1": 4003}
MACHINE = Machine(Path("data"), Address("127.0.0.1", 8080), "127.0.0.1:4001", "default", PORTS)


def test_ports_of_the_last_run_are_kept() -> None:
    assert choose_ports(["s1", "s2"], {"s1": 7, "s2": 8}, lambda _: True, count(100)) == {"s1": 7, "s2": 8}


def test_a_port_that_is_taken_is_replaced() -> None:
    assert choose_ports(["s1", "s2"], {"s1": 7, "s2": 8}, lambda port: port != 7, count(100)) == {"s1": 100, "s2": 8}


def test_no_port_is_given_twice() -> None:
    ports = choose_ports(["s1", "s2", "s3"], {"s2": 100, "s3": 100}, lambda _: True, count(100))
    assert len(set(ports.values())) == 3


def test_the_gateway_ends_first_and_etcd_last() -> None:
    assert stages(["etcd", "s1", "s2", "gateway"]) == [["gateway"], ["s1", "s2"], ["etcd"]]


def test_shards_are_numbered_from_one() -> None:
    assert shard_names(2) == ["s1", "s2"]


def test_every_process_is_told_where_etcd_is() -> None:
    for program in (MACHINE.shard("s1"), MACHINE.gateway()):
        command = " ".join(program.command)
        assert "--etcd 127.0.0.1:4001 --cluster default" in command
        assert program.log == Path("data/logs") / f"{program.name}.log"


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "exit status 0"), (3, "exit status 3"), (-signal.SIGKILL, "killed by SIGKILL"), (-63, "killed by signal 63")],
)
def test_an_end_is_told_in_words(status: int, words: str) -> None:
    assert how_it_ended(status) == words


def test_who_died_of_what_and_what_to_do() -> None:
    text = obituary(Ended(MACHINE.shard("s1"), -signal.SIGKILL, "all is well"))
    assert "s1 has ended: killed by SIGKILL. The others go on." in text
    assert "data/logs/s1.log: all is well" in text
    assert "-m shard --etcd 127.0.0.1:4001" in text


def test_what_runs_where_is_a_table() -> None:
    lines = what_runs([(MACHINE.shard("s1"), 17)]).splitlines()
    assert lines == ["PROCESS  PID  ADDRESS         LOG", "s1       17   127.0.0.1:4003  data/logs/s1.log"]


def test_a_newcomer_gets_a_post_and_a_get() -> None:
    text = things_to_try("http://127.0.0.1:8080", 5)
    assert "curl -i -X POST 'http://127.0.0.1:8080/analytics?timestamp=5&user=ann&click'" in text
    assert "curl 'http://127.0.0.1:8080/analytics?timestamp=5'" in text


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://[::1]:80"),
        ("[::1]:80", "http://[::1]:80"),
        ("localhost:80", "http://localhost:80"),
    ],
)
def test_an_address_says_where_to_reach_it(text: str, url: str) -> None:
    assert url_of(Address.parse("--http", text)) == url


@pytest.mark.parametrize("text", ["", "8080", "host:", "host:0", "host:65536", "host:x", "host:８０"])
def test_what_is_no_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="--http"):
        Address.parse("--http", text)
