"""Whose data a directory holds. Asked before anything in it is opened, so that a wrong one is left untouched."""

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Final

from tally.cluster.config import ClusterConfig, differences
from tally.cluster.identity import IDENTITY_FILE, Identity
from tally.errors import DirectoryRefused
from tally.files import is_draft, make_directories, write_whole

DATABASE: Final = "rocksdb"


def read_identity(path: Path) -> Identity | None:
    """Return what a data directory says of itself; None if it is empty or not there.

    Raises:
        DirectoryRefused: It holds something else than a shard's data.
    """
    file = path / IDENTITY_FILE
    try:
        if file.exists():
            return Identity.from_json(file.read_bytes(), path)
        # A start that was cut short may have left its draft.
        others = path.exists() and any(not is_draft(child.name, IDENTITY_FILE) for child in path.iterdir())
    except OSError as exc:
        raise DirectoryRefused(str(path), f"it can't be read ({exc.strerror})") from exc
    if others:
        raise DirectoryRefused(str(path), f"it is not empty, and has no {IDENTITY_FILE}")
    return None


def check_identity(found: Identity, path: Path, shard: str | None, config: ClusterConfig) -> None:
    """Refuse the data of another shard, another cluster, or other fixed settings.

    Args:
        found: What the directory says.
        path: Where it is, for the error.
        shard: The id that the operator gave, if any.
        config: The cluster that the shard is to join.

    Raises:
        DirectoryRefused: It says what does not fit.
    """
    if shard is not None and found.shard != shard:
        raise DirectoryRefused(str(path), f"it is the data of shard {found.shard!r}, not of {shard!r}")
    if found.cluster != config.uuid:
        reason = f"it belongs to the cluster {found.cluster}, not to {config.uuid}"
        raise DirectoryRefused(
            str(path),
            f"{reason}; if etcd had lost the cluster of this data, bring that back: tally recover --data {path}",
        )
    if differing := differences(found.shape, config.shape):
        raise DirectoryRefused(str(path), f"its fixed settings are not those of the cluster: {'; '.join(differing)}")


def after_look(found: Identity, *, has_copies: bool) -> Identity:
    """Return the identity of a directory whose database was opened: another one, if what it held is gone.

    Under its old name an emptied directory would pass for one that has the data.
    """
    if has_copies:
        return replace(found, founded=True)
    return replace(found, directory=secrets.token_hex(16), founded=False) if found.founded else found


def make_identity(path: Path, identity: Identity) -> None:
    """Make a data directory for ``identity``; durable when this returns.

    Raises:
        DirectoryRefused: It can't be made or written.
    """
    try:
        make_directories(path)
        write_whole(path / IDENTITY_FILE, identity.to_json())
    except OSError as exc:
        raise DirectoryRefused(str(path), f"it can't be written ({exc.strerror})") from exc
