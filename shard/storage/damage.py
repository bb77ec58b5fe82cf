"""A damaged database is set aside, and the copies that were in it come back from the other shards.

The damage is noted in the data directory first, durably, so that no later start can take the database for a good one.
Where this shard has the only copy of a slot it is not for a program to give up what is left: then the start is refused,
and an operator decides.

Safe at each crash: the note stays until the directory has another name and the database is out of the way. A copy that
the map names by what was in there is then nowhere, and never passes for one that has the data.
"""

import contextlib
import secrets
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from shard.counting.keys import RECORDS
from shard.storage.directory import DATABASE, after_look, make_identity
from shard.storage.opening import look_over
from shard.storage.store import CACHE_BYTES, Store
from tally.cluster.identity import Identity
from tally.cluster.slot_map import SlotMap
from tally.errors import DataDamaged, DirectoryRefused, StoreCorrupt
from tally.files import sync_directory, write_whole

log = structlog.get_logger()

DAMAGE_FILE: Final = "tally-damaged"
SET_ASIDE: Final = f"{DATABASE}.damaged"


def only_here(held: SlotMap | None, identity: Identity) -> list[int]:
    """Return the slots of which no other shard has a copy in sync; all of them if there were copies and no map says.

    Args:
        held: The map, None if there is none.
        identity: Of the directory whose database is damaged.
    """
    if held is None:
        return list(range(identity.shape.slots)) if identity.founded else []
    return [slot for slot, row in enumerate(held.rows) if set(row.in_sync) == {identity.shard}]


def note_damage(path: Path, reason: str) -> None:
    """Note that the database in a data directory is damaged; durable when this returns.

    Raises:
        DirectoryRefused: It can't be noted.
    """
    try:
        write_whole(path / DAMAGE_FILE, f"{reason}\n")
    except OSError as exc:
        raise DirectoryRefused(str(path), f"it can't be written ({exc.strerror})") from exc


def noted_damage(path: Path) -> str | None:
    """Return why the database in a data directory is not to be used, None if nothing was noted.

    Raises:
        DirectoryRefused: The note can't be read.
    """
    try:
        return (path / DAMAGE_FILE).read_text(encoding="utf-8", errors="replace").strip() or "it was noted as damaged"
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise DirectoryRefused(str(path), f"it can't be read ({exc.strerror})") from exc


def open_data(
    path: Path, identity: Identity, held: SlotMap | None, *, give_up: bool, cache_bytes: int = CACHE_BYTES
) -> tuple[Identity, Store]:
    """Open the database of a data directory; a damaged one is set aside first, and an empty one takes its place.

    Args:
        path: The data directory.
        identity: What it says of itself.
        held: The map, None if there is none.
        give_up: Set a damaged one aside even if nobody else has its slots.
        cache_bytes: See ``Store``.

    Returns:
        The identity to go on with, and the store.

    Raises:
        DataDamaged: It is damaged, and no other shard has some of its slots.
        DirectoryRefused: Another process has it open, or the directory can't be read or written.
        StoreCorrupt, StoreFailed: It can't be opened.
    """
    reason = noted_damage(path)
    if reason is None:
        try:
            return _open(path, identity, cache_bytes)
        except StoreCorrupt as exc:
            reason = exc.what
            note_damage(path, reason)
    slots = only_here(held, identity)
    log.error("store_damaged", path=str(path), reason=reason, slots_only_here=len(slots))
    if slots and not give_up:
        raise DataDamaged(str(path), reason, slots)
    return _open(path, set_aside(path, identity), cache_bytes)


def _open(path: Path, found: Identity, cache_bytes: int) -> tuple[Identity, Store]:
    store = Store(path / DATABASE, cache_bytes)
    try:
        identity = look_inside(path, found, store)
        look_over(store)  # Now, while a damaged one can still be set aside.
    except BaseException:
        with contextlib.suppress(Exception):  # A damaged one may not close well; what was found first counts.
            store.close()
        raise
    return identity, store


def look_inside(path: Path, found: Identity, store: Store) -> Identity:
    """Return the identity of a directory whose database is open; it may have lost what it held."""
    identity = after_look(found, has_copies=any(True for _ in store.scan(*RECORDS)))
    if identity.directory != found.directory:
        log.error("directory_lost_its_data", path=str(path), shard=found.shard)
    if identity != found:
        make_identity(path, identity)
    return identity


def set_aside(path: Path, found: Identity) -> Identity:
    """Move a damaged database out of the way; return the directory's new identity. Safe to repeat after a crash.

    Raises:
        DirectoryRefused: The directory can't be written.
    """
    identity = replace(found, directory=secrets.token_hex(16), founded=False)
    make_identity(path, identity)
    database, aside = path / DATABASE, path / SET_ASIDE
    try:
        if database.exists():  # Else a crash came between the next steps, and what is aside is it.
            older_removed = aside.exists()
            if older_removed:
                shutil.rmtree(aside)
            database.rename(aside)
            log.warning("database_set_aside", path=str(aside), older_removed=older_removed)
        sync_directory(path)
        (path / DAMAGE_FILE).unlink(missing_ok=True)
        sync_directory(path)
    except OSError as exc:
        raise DirectoryRefused(str(path), f"it can't be written ({exc.strerror})") from exc
    return identity
