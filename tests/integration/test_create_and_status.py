"""``tally create`` and ``tally status`` against a real etcd."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import tally
from tests.support.etcd import EtcdServer


@pytest.fixture(scope="module")
def etcd() -> Iterator[str]:
    with EtcdServer() as server:
        yield server.endpoint


async def test_a_cluster_is_made_once(etcd: str) -> None:
    first = await tally("create", "--etcd", etcd, "--cluster", "once", "--shards", "2")
    second = await tally("create", "--etcd", etcd, "--cluster", "once", "--shards", "5")
    assert (first.status, first.err) == (0, "")
    assert (second.status, second.err) == (0, "--shards 5 changes nothing: the cluster was made with 2\n")
    assert first.out.startswith("cluster 'once' made: 256 slots, spread 16, 24 hours together")
    assert "is there already" in second.out
    assert "first map with 2 shards" in second.out


async def test_other_fixed_settings_are_refused_by_name(etcd: str) -> None:
    await tally("create", "--etcd", etcd, "--cluster", "fixed")
    other = await tally("create", "--etcd", etcd, "--cluster", "fixed", "--slots", "64", "--hours-together", "1")
    assert other.status == 1
    assert other.out == ""
    assert "slots is 256, not 64; hours_together is 24, not 1" in other.err
    assert len(other.err.splitlines()) == 1


async def test_cluster_that_lets_no_shard_be_away_is_made_with_a_warning(etcd: str) -> None:
    made = await tally("create", "--etcd", etcd, "--cluster", "two", "--copies", "2")
    assert made.status == 0
    assert made.err == (
        "with min_copies 2 of 2 copies, one shard that is away stops the writes of its slots; "
        "one copy more, or min_copies 1, prevents that\n"
    )


@pytest.mark.parametrize(
    "settings", [("--copies", "6"), ("--slots", "0"), ("--spread", "300"), ("--shards", "0"), ("--cluster", "A B")]
)
async def test_a_setting_out_of_range_is_refused(etcd: str, settings: tuple[str, str]) -> None:
    refused = await tally("create", "--etcd", etcd, *settings)
    assert refused.status == 2
    assert f"{settings[0].removeprefix('--')} is " in refused.err
    assert "Traceback" not in refused.err


async def test_an_etcd_that_does_not_answer_is_one_line() -> None:
    gone = await tally("create", "--etcd", "127.0.0.1:1")
    assert gone.status == 1
    assert len(gone.err.splitlines()) == 1
    assert "127.0.0.1:1" in gone.err


async def test_without_an_etcd_both_say_how_to_name_one(tmp_path: Path) -> None:
    for command in ("create", "status"):
        asked = await tally(command, cwd=tmp_path)
        assert asked.status == 2
        assert "--etcd host:port or TALLY_ETCD" in asked.err


async def test_status_of_a_cluster_without_shards(etcd: str) -> None:
    await tally("create", "--etcd", etcd, "--cluster", "empty")
    table = await tally("status", "--etcd", etcd, "--cluster", "empty")
    assert table.status == 1
    assert "not shared out yet" in table.out
    report = await tally("status", "--etcd", etcd, "--cluster", "empty", "--output", "json")
    assert report.status == 1
    assert json.loads(report.out) == {
        "shards": [],
        "controller": None,
        "slots": 256,
        "map": False,
        "recovering": False,
        "map_outdated": [],
        "slots_serving": 0,
        "all_serve": False,
        "copies": 3,
        "min_copies": 2,
        "copies_missing": 0,
        "copies_silent": 0,
        "moves": 0,
        "copies_at_place": None,
        "copies_to_be": None,
        "not_writable": [],
        "without_live_copy": [],
        "etcd_alarms": [],
        "refusing": {},
    }


async def test_status_of_no_cluster_says_how_to_make_it(etcd: str) -> None:
    missing = await tally("status", "--etcd", etcd, "--cluster", "none")
    assert missing.status == 1
    assert "tally create --cluster none" in missing.err
