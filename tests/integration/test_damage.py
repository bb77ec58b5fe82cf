"""A data directory whose database is damaged, on a real RocksDB: refused, or set aside; safe at each crash."""

from pathlib import Path

import pytest

from shard.counting.changes import Changes
from shard.counting.keys import CopyRecord, record_key
from shard.storage.damage import DAMAGE_FILE, SET_ASIDE, note_damage, open_data
from shard.storage.directory import DATABASE, make_identity, read_identity
from shard.storage.links import NOTE_FILE
from shard.storage.store import Store
from tally.cluster.identity import Identity
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.errors import DataDamaged, DirectoryRefused
from tests.support.cluster_values import SMALL

MINE = "ab" * 16
ALONE = SlotMap((SlotRow(1, "s1", {"s1": MINE}),))
SHARED = SlotMap((SlotRow(1, "s1", {"s1": MINE, "s2": "cd" * 16}),))


@pytest.fixture
def found(tmp_path: Path) -> Identity:
    """A directory with a copy of slot 0, and something behind its record that can be lost."""
    identity = Identity("cluster", "s1", MINE, SMALL, founded=True)
    make_identity(tmp_path, identity)
    store = Store(tmp_path / DATABASE)
    record = CopyRecord(generation=1, incarnation=bytes.fromhex(MINE), epoch=1)
    store.write([Changes([(record_key(0), record.encode())])])
    store.write([Changes([(b"t", b"1")])])
    store.close()
    return identity


def damage(path: Path) -> None:
    """Leave a database as one that lost the end of its log."""
    store = Store(path / DATABASE)
    store._note.write(store._last + 1)
    store._db.close()


def test_good_database_is_opened_as_it_is(tmp_path: Path, found: Identity) -> None:
    identity, store = open_data(tmp_path, found, ALONE, give_up=True)
    assert identity == found
    assert has_copy(store)
    store.close()


def test_damaged_database_whose_slots_others_have_is_set_aside(tmp_path: Path, found: Identity) -> None:
    damage(tmp_path)
    identity, store = open_data(tmp_path, found, SHARED, give_up=False)
    assert_begun_anew(tmp_path, identity, store)
    assert (tmp_path / SET_ASIDE / NOTE_FILE).exists()


def test_only_copy_is_refused_again_and_again_until_an_operator_gives_it_up(tmp_path: Path, found: Identity) -> None:
    damage(tmp_path)
    for _ in range(2):
        with pytest.raises(DataDamaged) as raised:
            open_data(tmp_path, found, ALONE, give_up=False)
        assert raised.value.slots == [0]
    assert read_identity(tmp_path) == found
    assert not (tmp_path / SET_ASIDE).exists()
    identity, store = open_data(tmp_path, found, ALONE, give_up=True)
    assert_begun_anew(tmp_path, identity, store)


def test_damage_that_was_noted_while_it_ran_counts_although_the_database_opens(tmp_path: Path, found: Identity) -> None:
    note_damage(tmp_path, "a block of a table")
    with pytest.raises(DataDamaged, match="a block of a table"):
        open_data(tmp_path, found, ALONE, give_up=False)
    identity, store = open_data(tmp_path, found, SHARED, give_up=False)
    assert_begun_anew(tmp_path, identity, store)


def test_record_that_does_not_decode_is_damage_too(tmp_path: Path, found: Identity) -> None:
    store = Store(tmp_path / DATABASE)
    store.write([Changes([(record_key(0), b"short")])])
    store.close()
    identity, store = open_data(tmp_path, found, SHARED, give_up=False)
    assert_begun_anew(tmp_path, identity, store)


def test_crash_between_the_new_name_and_the_move_is_made_good(tmp_path: Path, found: Identity) -> None:
    note_damage(tmp_path, "a block of a table")
    make_identity(tmp_path, renamed(found))
    identity, store = open_data(tmp_path, renamed(found), SHARED, give_up=False)
    assert_begun_anew(tmp_path, identity, store)


def test_crash_behind_the_move_does_not_lose_what_was_set_aside(tmp_path: Path, found: Identity) -> None:
    note_damage(tmp_path, "a block of a table")
    make_identity(tmp_path, renamed(found))
    (tmp_path / DATABASE).rename(tmp_path / SET_ASIDE)
    files = sorted((tmp_path / SET_ASIDE).iterdir())
    identity, store = open_data(tmp_path, renamed(found), SHARED, give_up=False)
    assert_begun_anew(tmp_path, identity, store)
    assert sorted((tmp_path / SET_ASIDE).iterdir()) == files


def test_second_damage_takes_the_place_of_the_first(tmp_path: Path, found: Identity) -> None:
    (tmp_path / SET_ASIDE).mkdir()
    (tmp_path / SET_ASIDE / "older").touch()
    note_damage(tmp_path, "a block of a table")
    identity, store = open_data(tmp_path, found, SHARED, give_up=False)
    assert_begun_anew(tmp_path, identity, store)
    assert not (tmp_path / SET_ASIDE / "older").exists()


def test_note_that_can_not_be_written_is_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(DirectoryRefused, match="can't be written"):
        note_damage(tmp_path / "gone", "a block of a table")


def renamed(found: Identity) -> Identity:
    return Identity(found.cluster, found.shard, "ef" * 16, found.shape)


def has_copy(store: Store) -> bool:
    return store.get([record_key(0)]) != [None]


def assert_begun_anew(path: Path, identity: Identity, store: Store) -> None:
    """Hold that nothing here passes for what was lost, now or at the next start."""
    assert not has_copy(store)
    store.close()
    assert (identity.shard, identity.founded) == ("s1", False)
    assert identity.directory != MINE
    assert read_identity(path) == identity
    assert not (path / DAMAGE_FILE).exists()
    again, store = open_data(path, identity, SHARED, give_up=False)
    assert again == identity
    store.close()
