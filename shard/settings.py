"""Settings of one shard process. What all processes must agree on stands in etcd."""

from dataclasses import dataclass
from pathlib import Path

from tally.cluster.etcd import EtcdSettings
from tally.cluster.keys import check_name
from tally.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ShardSettings:
    """What a shard is told when it is started.

    Attributes:
        etcd: Where etcd is.
        cluster: Name of the cluster to belong to.
        shard: The shard's id; None to go by the data directory, or to draw one for a new directory.
        data: The data directory; made if it is not there.
        listen: ``host:port`` to listen on.
        advertise: ``host:port`` where the others reach it; None if that is ``listen``.
        lease_s: How long it counts as alive after its last sign of life.
    """

    etcd: EtcdSettings
    cluster: str = "default"
    shard: str | None = None
    data: Path = Path("data/shard")
    listen: str = "127.0.0.1:9101"
    advertise: str | None = None
    lease_s: int = 10

    def __post_init__(self) -> None:
        check_name("TALLY_CLUSTER", self.cluster)
        if self.shard is not None:
            check_name("TALLY_SHARD_ID", self.shard)
        host, _, _ = split_address("TALLY_LISTEN", self.listen)
        if self.advertise is not None:
            split_address("TALLY_ADVERTISE", self.advertise)
        elif host in {"0.0.0.0", "[::]", "::", ""}:  # noqa: S104 - it is compared, not bound.
            raise ConfigError("TALLY_ADVERTISE", None, f"host:port that others reach, when listening on {self.listen}")
        if not 2 <= self.lease_s <= 300:
            raise ConfigError("TALLY_LEASE_S", self.lease_s, "2..300")

    @property
    def address(self) -> str:
        """``host:port`` where the others reach this shard."""
        return self.advertise or self.listen


def split_address(setting: str, address: str) -> tuple[str, str, int]:
    """Split ``host:port`` into host, ``:`` and port.

    Raises:
        ConfigError: It is not of that form; the error names ``setting``.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65_535:
        raise ConfigError(setting, address, "host:port, the port 1..65535")
    return host, colon, int(port)
