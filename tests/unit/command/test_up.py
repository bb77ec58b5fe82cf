"""The pure parts of ``tally up``."""

import re
import signal
import stat
import subprocess
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tally.address import Address
from tally.cluster.identity import IDENTITY_FILE
from tally.command.machine.addresses import url_of
from tally.command.machine.lock import locked
from tally.command.machine.processes import Ended, how_it_ended, telling_line
from tally.command.machine.programs import Machine, shard_names, stages, usual_ports
from tally.command.machine.remembered import FILE_NAME, Remembered, check_directory, choose_ports
from tally.command.machine.run import (
    ForeignMembers,
    check_members,
    obituary,
    things_to_try,
    what_runs,
    why_it_did_not_start,
    why_not_ready,
)
from tally.command.machine.up import child_environment, plan
from tally.errors import ConfigError, DirectoryRefused

PORTS = {"etcd": 4001, "etcd-peer": 4002, "s1": 4003, "s1-peer": 4004}
MACHINE = Machine(Path("data"), Address("127.0.0.1", 8080), "127.0.0.1:4001", "default", PORTS)


def test_ports_of_the_last_run_are_kept() -> None:
    ports = choose_ports(["s1", "s2"], {"s1": 7, "s2": 8}, {"s1": 9101}, lambda _: True, count(100))
    assert ports == {"s1": 7, "s2": 8}


def test_a_port_that_is_taken_is_replaced() -> None:
    ports = choose_ports(["s1", "s2"], {"s1": 7, "s2": 8}, {}, lambda port: port not in {7, 100}, count(100))
    assert ports == {"s1": 101, "s2": 8}


def test_a_new_process_gets_its_usual_port_if_nobody_has_it() -> None:
    usual = usual_ports(3)
    peers = {"s1-peer": 9201, "s2-peer": 9202, "s3-peer": 9203}
    assert usual == {"etcd": 2379, "etcd-peer": 2380, "s1": 9101, "s2": 9102, "s3": 9103, **peers}
    ports = choose_ports(["s1", "s2", "s3"], {"s3": 9101}, usual, lambda port: port != 9102, count(100))
    assert ports == {"s1": 100, "s2": 101, "s3": 9101}


def test_no_port_is_given_twice() -> None:
    ports = choose_ports(["s1", "s2", "s3"], {"s2": 100, "s3": 100}, {"s1": 100}, lambda _: True, count(100))
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
    assert "-P -m shard --etcd 127.0.0.1:4001" in text


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


@pytest.mark.parametrize("text", ["", "8080", ":8080", "host:", "host:0", "host:65536", "host:x", "host:８０"])
def test_what_is_no_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="--http"):
        Address.parse("--http", text)


HTTP = Address("127.0.0.1", 8080)
HAD = {name: 40_000 + number for number, name in enumerate(["etcd", "etcd-peer", "s1", "s2", "s3", "s4"])}
OWN = Remembered(etcd="127.0.0.1:40000", cluster="mine", ports=HAD)
THEIRS = Remembered(etcd="etcd1:2379", cluster="mine", ports={"s1": 40_002})


def test_new_data_gets_three_shards_in_the_cluster_default() -> None:
    machine = plan(Path("data"), HTTP, None)
    assert (machine.shards, machine.cluster) == (["s1", "s2", "s3"], "default")


def test_what_is_not_said_is_as_in_the_last_run() -> None:
    machine = plan(Path("data"), HTTP, OWN)
    assert (machine.shards, machine.cluster) == (["s1", "s2", "s3", "s4"], "mine")
    assert plan(Path("data"), HTTP, OWN, shards=5).shards == ["s1", "s2", "s3", "s4", "s5"]
    assert plan(Path("data"), HTTP, OWN, cluster="mine").cluster == "mine"
    assert plan(Path("data"), HTTP, THEIRS, etcd="etcd2:2379").etcd == "etcd2:2379"


@pytest.mark.parametrize(
    ("before", "said", "named"),
    [
        (OWN, {"shards": 3}, "--shards is 3; allowed: 4 or more"),
        (OWN, {"cluster": "other"}, "--cluster is 'other'; allowed: mine"),
        (OWN, {"etcd": "etcd1:2379"}, "--etcd is 'etcd1:2379'; allowed: none"),
        (THEIRS, {}, "--etcd must be given: the cluster in data was last in the etcd at etcd1:2379"),
        (None, {"cluster": "A B"}, "--cluster is 'A B'"),
    ],
)
def test_what_does_not_fit_the_last_run_is_refused(before: Remembered | None, said: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(named)):
        plan(Path("data"), HTTP, before, **said)


def test_children_do_not_take_our_settings_for_theirs() -> None:
    ours = {"PATH": "/bin", "TALLY_ADVERTISE": "host:1", "TALLY_DATA": "x", "TALLY_ETCD_USER": "old"}
    assert child_environment(ours, {"etcd_user": "ann", "etcd_password": None, "etcd_ca": Path("ca.pem")}) == {
        "PATH": "/bin",
        "TALLY_ETCD_USER": "ann",
        "TALLY_ETCD_CA": "ca.pem",
    }


@pytest.mark.parametrize("names", [[], ["lock", "logs"], ["tally-up.json", "etcd", "s1"]])
def test_a_directory_that_is_new_or_ours_is_taken(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    check_directory(tmp_path)
    check_directory(tmp_path / "none")


def test_a_directory_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(DirectoryRefused, match=r"it is not empty, and not of `tally up`: it holds 'thesis\.txt'"):
        check_directory(tmp_path)


def test_shards_of_others_in_the_same_cluster_are_refused_by_name() -> None:
    check_members("mine", ["s1"], ["s1", "s2"], Path("data"))
    with pytest.raises(ForeignMembers, match=r"data is not in data: s1, x; choose another --cluster"):
        check_members("mine", ["s1", "s2", "x"], ["s2"], Path("data"))


def test_reasons_are_told_without_saying_twice_that_it_is_not_ready() -> None:
    assert why_not_ready("not ready\nshard s1 does not answer: slot 2\nno\n") == "shard s1 does not answer: slot 2; no"


WARNING = '{"level":"warn","msg":"slow"}'
ERROR = '{"level":"fatal","msg":"can not open"}'


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], ""),
        (["one", "two", ""], "two"),
        ([WARNING], WARNING),
        ([ERROR, WARNING], ERROR),
        ([ERROR, WARNING, "tally-shard: no"], "tally-shard: no"),
        ([ERROR, "panic: page 7", "", "goroutine 1 [running]:", "main.main()"], "panic: page 7"),
        (["fatal error: fault", "goroutine 1 [running]:"], "fatal error: fault"),
    ],
)
def test_of_a_log_the_line_is_told_that_says_why(lines: list[str], told: str) -> None:
    assert telling_line(lines) == told


def test_data_that_a_process_started_by_hand_holds_says_what_to_do() -> None:
    words = "refusing the data directory x: another process has it open"
    said = why_it_did_not_start(Ended(MACHINE.shard("s1"), 1, words))
    assert "started by hand, end it, then run again" in said
    assert "by hand" not in why_it_did_not_start(Ended(MACHINE.shard("s1"), 1, "no room"))


def test_only_its_owner_looks_into_the_data(tmp_path: Path) -> None:
    with locked(tmp_path / "data"):
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"etcd": 1}', "\0" * 100])
def test_a_damaged_state_is_told_with_the_way_out_that_loses_no_data(tmp_path: Path, damaged: str) -> None:
    file = tmp_path / FILE_NAME
    file.write_text(damaged)
    with pytest.raises(DirectoryRefused, match="no shard has data there"):
        Remembered.load(file)
    for name in ("s1", "s3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / IDENTITY_FILE).touch()
    (tmp_path / "etcd").mkdir()
    with pytest.raises(DirectoryRefused) as refused:
        Remembered.load(file)
    command = str(refused.value).partition("another: ")[2]
    subprocess.run(command, shell=True, check=True)
    found = Remembered.load(file)
    assert found is not None
    assert (found.shards(), found.own_etcd, found.cluster) == (["s1", "s2", "s3"], True, "default")
    assert plan(tmp_path, HTTP, found).shards == ["s1", "s2", "s3"]
