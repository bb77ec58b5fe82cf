"""What the config and the secret were that etcd has lost, or has not of this cluster."""

from pathlib import Path
from typing import NamedTuple

from tally.cluster.config import ClusterConfig
from tally.cluster.identity import IDENTITY_FILE, Identity
from tally.cluster.keys import Keys
from tally.cluster.secret import SECRET_FILE, ClusterSecret
from tally.cluster.state import ClusterState, KeyValue
from tally.command.cluster import Refused
from tally.errors import DirectoryRefused


def lost_config(data: Path, shards: int | None, copies: int, min_copies: int | None) -> ClusterConfig:
    """Return what the config was, by a shard's data directory and by what the operator says.

    Args:
        data: The directory.
        shards: How many there were, if that is said.
        copies: Of each slot.
        min_copies: Below how many a slot takes no writes; None: 2, or ``copies`` if that is less.

    Raises:
        DirectoryRefused: It holds no shard's data.
        ConfigError: ``--copies`` or ``--min-copies`` is out of its range.
    """
    file = data / IDENTITY_FILE
    try:
        identity = Identity.from_json(file.read_bytes(), data)
    except OSError as exc:
        raise DirectoryRefused(str(data), f"{IDENTITY_FILE} in it can't be read ({exc.strerror})") from exc
    return ClusterConfig(
        uuid=identity.cluster,
        shape=identity.shape,
        copies=copies,
        min_copies=min(2, copies) if min_copies is None else min_copies,
        first_shards=shards or 1,
    )


class Lost(NamedTuple):
    """What a shard's data directory knows, and etcd may have lost.

    Attributes:
        config: With what the operator said of it.
        secret: None if the directory has none, because its shard is of an older version.
    """

    config: ClusterConfig
    secret: ClusterSecret | None


def lost_secret(data: Path) -> ClusterSecret | None:
    """Return the secret in a shard's data directory; None if there is none.

    Raises:
        DirectoryRefused: It can't be read.
        BadClusterData: It is something else.
    """
    file = data / SECRET_FILE
    try:
        return ClusterSecret.from_json(file.read_bytes(), str(file)) if file.exists() else None
    except OSError as exc:
        raise DirectoryRefused(str(data), f"{SECRET_FILE} in it can't be read ({exc.strerror})") from exc


def state_with(keys: Keys, found: list[KeyValue], lost: Lost | None, drawn: ClusterSecret) -> ClusterState:
    """Parse what etcd has, with what it lost. Pure.

    The secret is that of the directory if the config is, else that of etcd. Where there is none it is ``drawn``, which
    all processes take over once it stands in etcd.

    Raises:
        Refused: There is no config, or one of another cluster, and what to do about it.
    """
    by_key = {one.key: one for one in found}
    there_is = by_key.get(keys.config)
    if there_is is None and lost is None:
        raise Refused(
            f"etcd has no config of the cluster {keys.cluster!r}: say with --data where a shard's data are, on a "
            "machine that has some; they say which cluster it was"
        )
    if lost is None:
        return ClusterState.from_etcd(keys, by_key.values())
    uuid = ClusterConfig.from_json(there_is.value, keys.config).uuid if there_is else ""
    if uuid not in {"", lost.config.uuid} and keys.map in by_key:
        raise Refused(
            f"etcd has another cluster of the name {keys.cluster!r}, with a map: {uuid}, not {lost.config.uuid}. If it "
            f"can go, end its shards, delete all below {keys.prefix} with etcdctl, and run this again"
        )
    if uuid == lost.config.uuid:
        secret = None if keys.secret in by_key else lost.secret or drawn
    else:
        by_key[keys.config] = KeyValue(keys.config, lost.config.to_json().encode(), 0, 0)
        # That of another cluster of this name is of no use.
        secret = lost.secret or (None if not uuid and keys.secret in by_key else drawn)
    if secret is not None:
        by_key[keys.secret] = KeyValue(keys.secret, secret.to_json().encode(), 0, 0)
    return ClusterState.from_etcd(keys, by_key.values())
