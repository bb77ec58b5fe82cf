"""The secret of a cluster: drawn, written, read again, compared; and never shown."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shard.storage.kept_secret import KeptSecret, make_private
from tally.cluster.secret import SECRET_FILE, ClusterSecret
from tally.cluster.state import ClusterState
from tally.errors import BadClusterData
from tests.support.cluster_values import SECRET, state

TEXT = SECRET.reveal()


def test_secret_comes_back_as_it_was_written_and_each_that_is_drawn_is_another() -> None:
    drawn = {ClusterSecret.draw() for _ in range(10)}
    assert len(drawn) == 10
    assert {ClusterSecret.from_json(one.to_json(), "k") for one in drawn} == drawn
    assert {len(one.reveal()) for one in drawn} == {64}


def test_only_the_whole_secret_is_the_secret() -> None:
    assert SECRET.is_same(TEXT)
    assert SECRET.is_same(TEXT.encode())
    others: list[str | bytes] = [
        "",
        TEXT[:-1],
        TEXT + "0",
        TEXT * 2,
        TEXT.upper(),
        f" {TEXT}",
        "0" * 64,
        "ä" * 32,
        "\ud800",
        b"",
        b"\xff" * 64,
    ]
    assert not any(SECRET.is_same(other) for other in others)
    assert ClusterSecret(TEXT) == SECRET
    assert ClusterSecret("0" * 64) != SECRET
    assert SECRET != TEXT


def test_secret_is_in_nothing_that_is_printed() -> None:
    held = state(mapped=True)
    shown = [repr(SECRET), str(SECRET), f"{SECRET}", repr(held), str(held), f"{replace(held, alive={})!r}"]
    assert not [text for text in shown if TEXT in text]


@pytest.mark.parametrize(
    "value", [{}, {"secret": None}, {"secret": 7}, {"secret": ""}, {"secret": TEXT[:-1] + "!"}, {"secret": TEXT * 2}]
)
def test_what_is_no_secret_is_refused_by_its_key_and_not_shown(value: dict[str, object]) -> None:
    with pytest.raises(BadClusterData, match=r"/tally/t/secret") as raised:
        ClusterSecret.from_json(json.dumps(value), "/tally/t/secret")
    assert TEXT[:8] not in str(raised.value)


def test_map_file_of_a_version_that_knew_no_secret_is_refused() -> None:
    """A gateway that started from it could speak to no shard."""
    old = json.loads(state(mapped=True).to_file("default"))
    del old["secret"]
    with pytest.raises(BadClusterData, match="there is no secret in it"):
        ClusterState.from_file(json.dumps(old), "map.json", "default")


def test_secret_is_kept_in_the_data_directory_for_its_owner_alone(tmp_path: Path) -> None:
    kept = KeptSecret(tmp_path)
    kept.keep(SECRET)
    file = tmp_path / SECRET_FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert ClusterSecret.from_json(file.read_text(), SECRET_FILE) == SECRET
    another = ClusterSecret.draw()
    kept.keep(another)
    assert ClusterSecret.from_json(file.read_text(), SECRET_FILE) == another


def test_secret_that_is_kept_already_is_not_written_again(tmp_path: Path) -> None:
    KeptSecret(tmp_path).keep(SECRET)
    written = (tmp_path / SECRET_FILE).stat().st_ino
    KeptSecret(tmp_path).keep(SECRET)
    assert (tmp_path / SECRET_FILE).stat().st_ino == written


def test_secret_that_can_not_be_written_is_written_when_it_can(tmp_path: Path) -> None:
    data = tmp_path / "later"
    kept = KeptSecret(data)
    kept.keep(SECRET)
    data.mkdir()
    kept.keep(SECRET)
    assert (data / SECRET_FILE).exists()


def test_file_that_is_no_secret_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / SECRET_FILE).write_text("{")
    KeptSecret(tmp_path).keep(SECRET)
    assert ClusterSecret.from_json((tmp_path / SECRET_FILE).read_text(), "") == SECRET


def test_directory_that_an_older_version_left_open_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_private(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o700
