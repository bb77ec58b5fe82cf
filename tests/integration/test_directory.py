"""Whose data a directory holds: it is remembered, and every other process is refused."""

import dataclasses
import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shard.counting.changes import Changes
from shard.counting.keys import CopyRecord, record_key
from shard.node import own_directory
from shard.settings import ShardSettings
from shard.storage.damage import look_inside
from shard.storage.directory import DATABASE, check_identity, make_identity, read_identity
from shard.storage.store import Store
from tally.cluster.etcd import EtcdSettings
from tally.cluster.identity import FORMAT, IDENTITY_FILE, Identity
from tally.cluster.keys import Keys
from tally.errors import DirectoryRefused
from tally.hashing import Shape
from tests.support import cluster_values

SHAPE = Shape(slots=8, spreads=((0, 4), (500_000, 8)), hours_together=24)
CONFIG = cluster_values.config(shape=SHAPE)
IDENTITY = Identity(CONFIG.uuid, "s1", "ab" * 16, SHAPE)


def test_identity_is_read_as_it_was_written(tmp_path: Path) -> None:
    directory = tmp_path / "made" / "on the way"
    make_identity(directory, IDENTITY)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert read_identity(directory) == IDENTITY
    assert [child.name for child in directory.iterdir()] == [IDENTITY_FILE]


def test_identity_can_be_made_again(tmp_path: Path) -> None:
    make_identity(tmp_path, IDENTITY)
    renewed = dataclasses.replace(IDENTITY, directory="cd" * 16)
    make_identity(tmp_path, renewed)
    assert read_identity(tmp_path) == renewed


def test_directory_that_is_empty_or_not_there_has_no_identity(tmp_path: Path) -> None:
    assert read_identity(tmp_path) is None
    assert read_identity(tmp_path / "nothing") is None


def test_draft_of_a_start_that_was_cut_short_is_no_data(tmp_path: Path) -> None:
    (tmp_path / f"{IDENTITY_FILE}.new").write_text("{")
    assert read_identity(tmp_path) is None
    make_identity(tmp_path, IDENTITY)
    assert read_identity(tmp_path) == IDENTITY


def test_directory_with_something_else_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DirectoryRefused, match="it is not empty"):
        read_identity(tmp_path)
    assert [child.name for child in tmp_path.iterdir()] == ["thesis.txt"]


def test_directory_of_format_2_is_marked_with_this_format_before_it_is_opened(tmp_path: Path) -> None:
    """The version that wrote it would take what is written from now on for damage."""
    make_identity(tmp_path, dataclasses.replace(IDENTITY, format=2, founded=True))
    found = own_directory(settings(tmp_path, "s1"), CONFIG)
    assert found == read_identity(tmp_path) == dataclasses.replace(IDENTITY, founded=True)
    assert (found.format, FORMAT) == (3, 3)


def spoilt(**changes: object) -> bytes:
    """Return the identity file with some values changed; those changed to None are left out."""
    value: dict[str, Any] = {**json.loads(IDENTITY.to_json()), **changes}
    return json.dumps({key: one for key, one in value.items() if one is not None}).encode()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (spoilt(format=9), "format 9"),
        (spoilt(format=1), "format 1"),
        (spoilt(format="1"), "format '1'"),
        (spoilt(hash="md5"), "hash 'md5'"),
        (spoilt(cluster=None), "can't be read"),
        (spoilt(format=None), "can't be read"),
        (spoilt(slots="many"), "can't be read"),
        (spoilt(slots=0), "can't be read"),
        (spoilt(spread=[]), "can't be read"),
        (spoilt(spread=16), "can't be read"),
        (spoilt(spread=[[0, 9]]), "can't be read"),
        (spoilt(hours_together=0), "can't be read"),
        (b"", "can't be read"),
        (b"{", "can't be read"),
        (b"[]", "can't be read"),
        (b"null", "can't be read"),
        (b"\xff\xfe\x00", "can't be read"),
    ],
)
def test_identity_that_can_not_be_read_is_refused_by_its_path(tmp_path: Path, content: bytes, complaint: str) -> None:
    (tmp_path / IDENTITY_FILE).write_bytes(content)
    with pytest.raises(DirectoryRefused) as raised:
        read_identity(tmp_path)
    assert str(tmp_path) in str(raised.value)
    assert complaint in str(raised.value)


def test_own_data_is_accepted_with_or_without_a_name() -> None:
    check_identity(IDENTITY, Path("data"), "s1", CONFIG)
    check_identity(IDENTITY, Path("data"), None, CONFIG)


@pytest.mark.parametrize(
    ("shard", "change", "complaint"),
    [
        ("s2", lambda found: found, "data of shard 's1', not of 's2'"),
        (None, lambda found: dataclasses.replace(found, cluster="ff" * 16), f"cluster {'ff' * 16}, not to"),
        (
            None,
            lambda found: dataclasses.replace(found, shape=dataclasses.replace(SHAPE, slots=16, hours_together=1)),
            "its fixed settings are not those of the cluster: slots is 16, not 8; hours_together is 1, not 24",
        ),
    ],
)
def test_data_of_somebody_else_is_refused(
    shard: str | None, change: Callable[[Identity], Identity], complaint: str
) -> None:
    with pytest.raises(DirectoryRefused, match=complaint):
        check_identity(change(IDENTITY), Path("data"), shard, CONFIG)


def settings(data: Path, shard: str | None = None) -> ShardSettings:
    return ShardSettings(etcd=EtcdSettings(endpoints=("127.0.0.1:2379",)), keys=Keys("default"), data=data, shard=shard)


def test_new_directory_gets_a_name_that_stays(tmp_path: Path) -> None:
    made = own_directory(settings(tmp_path / "new"), CONFIG)
    assert made.shard.startswith("shard-")
    assert own_directory(settings(tmp_path / "new"), CONFIG) == made


def opened(path: Path) -> Identity:
    """Return the identity that a start would go on with."""
    store = Store(path / DATABASE)
    try:
        return look_inside(path, own_directory(settings(path), CONFIG), store)
    finally:
        store.close()


def with_a_founding_copy(path: Path) -> Identity:
    """Make a directory as it is after the first map."""
    made = own_directory(settings(path, "s1"), CONFIG)
    store = Store(path / DATABASE)
    record = CopyRecord(generation=1, incarnation=bytes.fromhex(made.directory), epoch=1)
    store.write([Changes([(record_key(0), record.encode())])])
    store.close()
    return opened(path)


def test_directory_that_was_never_founded_stays_what_it_is(tmp_path: Path) -> None:
    made = own_directory(settings(tmp_path, "s1"), CONFIG)
    assert opened(tmp_path) == made


def test_directory_with_copies_is_founded_even_if_its_start_was_cut_short(tmp_path: Path) -> None:
    founded = with_a_founding_copy(tmp_path)
    assert founded.founded
    assert opened(tmp_path) == founded == read_identity(tmp_path)


@pytest.mark.parametrize("left", ["nothing", "an empty directory"])
def test_directory_that_lost_its_database_becomes_another_copy(tmp_path: Path, left: str) -> None:
    """Under its old incarnation it would take itself for one that has the data (PROTOCOL rule 16)."""
    founded = with_a_founding_copy(tmp_path)
    shutil.rmtree(tmp_path / DATABASE)
    if left == "an empty directory":
        (tmp_path / DATABASE).mkdir()
    renewed = opened(tmp_path)
    assert (renewed.shard, renewed.cluster) == (founded.shard, founded.cluster)
    assert renewed.directory != founded.directory
    assert not renewed.founded
    assert read_identity(tmp_path) == renewed
