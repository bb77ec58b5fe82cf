"""What the config was that etcd has lost, or has not of this cluster."""

from pathlib import Path

from tally.cluster.config import ClusterConfig
from tally.cluster.identity import IDENTITY_FILE, Identity
from tally.cluster.keys import Keys
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


def state_with(keys: Keys, found: list[KeyValue], lost: ClusterConfig | None) -> ClusterState:
    """Parse what etcd has, with a config that it lost. Pure.

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
    if there_is is not None and lost is not None:
        uuid = ClusterConfig.from_json(there_is.value, keys.config).uuid
        if uuid != lost.uuid and keys.map in by_key:
            raise Refused(
                f"etcd has another cluster of the name {keys.cluster!r}, with a map: {uuid}, not {lost.uuid}. If it "
                f"can go, end its shards, delete all below {keys.prefix} with etcdctl, and run this again"
            )
        if uuid == lost.uuid:
            lost = None
    if lost is not None:
        by_key[keys.config] = KeyValue(keys.config, lost.to_json().encode(), 0, 0)
    return ClusterState.from_etcd(keys, by_key.values())
