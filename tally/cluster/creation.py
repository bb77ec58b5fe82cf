"""Making a cluster: its config and its secret in etcd. Whoever comes second takes what is there, or is refused."""

from typing import NamedTuple

from tally.cluster.config import ClusterConfig
from tally.cluster.etcd import Compare, CreateRevision, Etcd, ModRevision, Put
from tally.cluster.keys import Keys
from tally.cluster.secret import ClusterSecret
from tally.cluster.state import KeyValue
from tally.errors import BadClusterData, ClusterMissing, EtcdUnavailable, TallyError


class ClusterDiffers(TallyError):
    """There is a cluster of that name with other fixed settings. Nothing was changed."""

    def __init__(self, cluster: str, differences: tuple[str, ...]) -> None:
        super().__init__(cluster, differences)
        self.cluster = cluster
        self.differences = differences

    def __str__(self) -> str:
        return (
            f"cluster {self.cluster!r} exists with other fixed settings: {'; '.join(self.differences)}. "
            "They never change: use the same ones, or make a new cluster under another name"
        )


class Creation(NamedTuple):
    """What came of it.

    Attributes:
        config: The one that counts.
        made: It was written just now.
        secret: There is a secret too; a cluster that an older version made has none.
    """

    config: ClusterConfig
    made: bool
    secret: bool = True


async def create_if_absent(etcd: Etcd, keys: Keys, wanted: ClusterConfig) -> Creation:
    """Write the config of a cluster and draw its secret, unless there is such a cluster.

    Safe to repeat. What an operator may change is left as it is found; a secret that is missing stays so.

    Raises:
        ClusterDiffers: There is one, and something fixed in it is not as wanted.
        BadClusterData: There is one that can't be read.
        EtcdUnavailable: No answer; it may have been written.
    """
    absent = CreateRevision(keys.config, 0)
    both = [Put(keys.config, wanted.to_json()), Put(keys.secret, ClusterSecret.draw().to_json())]
    if (await etcd.commit(compare=[absent], then=both)).ok:
        return Creation(wanted, made=True)
    found = await etcd.read(keys.config)
    if found is None:
        raise EtcdUnavailable(keys.config, "the config was deleted between two questions; try again")
    config = ClusterConfig.from_json(found.value, keys.config)
    if differences := config.differences(wanted):
        raise ClusterDiffers(keys.cluster, tuple(differences))
    return Creation(config, made=False, secret=await etcd.read(keys.secret) is not None)


async def create_secret(etcd: Etcd, keys: Keys, *, replace: bool = False) -> bool:
    """Draw a secret for a cluster, unless it has one that can be read; return whether that was done.

    Args:
        etcd: Where the cluster is.
        keys: Of the cluster.
        replace: Also if it has one.

    Raises:
        ClusterMissing: There is no cluster of that name.
        EtcdUnavailable: No answer; it may have been written.
    """
    while True:
        config, secret = await etcd.read(keys.config), await etcd.read(keys.secret)
        if config is None:
            raise ClusterMissing(keys.cluster)
        if secret is not None and not replace and _readable(secret):
            return False
        guards: list[Compare] = [
            CreateRevision(keys.config, config.create_revision),
            ModRevision(keys.secret, secret.mod_revision if secret else 0),
        ]
        if (await etcd.commit(guards, [Put(keys.secret, ClusterSecret.draw().to_json())])).ok:
            return True


def _readable(secret: KeyValue) -> bool:
    try:
        ClusterSecret.from_json(secret.value, secret.key)
    except BadClusterData:
        return False
    return True
