"""Settings of one shard process. What all processes must agree on stands in etcd."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shard.engine.points import Point
from tally.address import PEER_PORT_OFFSET, Address
from tally.cluster.etcd import EtcdSettings
from tally.cluster.keys import Keys, check_name
from tally.cluster.resolve import parse_resolve
from tally.errors import ConfigError
from tally.monitor import door

LISTEN: Final = "--listen (TALLY_LISTEN)"
ADVERTISE: Final = "--advertise (TALLY_ADVERTISE)"
PEER_LISTEN: Final = "--peer-listen (TALLY_PEER_LISTEN)"
PEER_ADVERTISE: Final = "--peer-advertise (TALLY_PEER_ADVERTISE)"


@dataclass(frozen=True, kw_only=True)
class ShardSettings:
    """What a shard is told when it is started.

    Attributes:
        etcd: Where etcd is.
        keys: Of the cluster to belong to.
        shard: The shard's id; None to go by the data directory, or to draw one for a new directory.
        data: The data directory; made if it is not there.
        listen: ``host:port`` of the public service.
        advertise: ``host:port`` where its clients reach it; None if that is ``listen``.
        peer_listen: ``host:port`` of the internal service; None: that of ``listen``, 100 ports above.
        peer_advertise: ``host:port`` where the other processes of the cluster reach it; None: see ``peer_address``.
        lease_s: How long it counts as alive after its last sign of life.
        resolve: Where this process reaches other shards, if not where etcd says: ``id=host:port,...``.
        cache_mib: Memory for what was read from the database; as much and half more for what is to be written to it.
        metrics: ``host:port`` to answer ``GET /metrics`` on, port 0 for a free one; None: nowhere.
        set_damaged_aside: Go on without a damaged database even if nobody else has its slots.
        crash_at: For tests: the point of a move at which the process ends without warning.
        crash_on_user: For tests: a user whose events end the process without warning when it counts them.
    """

    etcd: EtcdSettings
    keys: Keys
    shard: str | None = None
    data: Path = Path("data/shard")
    listen: str = "127.0.0.1:9101"
    advertise: str | None = None
    peer_listen: str | None = None
    peer_advertise: str | None = None
    lease_s: int = 10
    cache_mib: int = 64
    resolve: str = ""
    metrics: str | None = None
    set_damaged_aside: bool = False
    crash_at: str | None = None
    crash_on_user: str | None = None

    def __post_init__(self) -> None:
        if self.shard is not None:
            check_name("--id (TALLY_ID)", self.shard)
        listen = Address.parse(LISTEN, self.listen)
        if self.advertise is not None:
            Address.parse(ADVERTISE, self.advertise)
        elif listen.is_everywhere:
            raise ConfigError(ADVERTISE, None, f"host:port that others reach, when listening on {self.listen}")
        if self.peers == listen:
            raise ConfigError(PEER_LISTEN, self.peer_listen, "another address than that of --listen")
        _ = self.peer_address  # It complains, if need be.
        if not 2 <= self.lease_s <= 300:
            raise ConfigError("--lease-s (TALLY_LEASE_S)", self.lease_s, "2..300")
        if not 4 <= self.cache_mib <= 65_536:
            raise ConfigError("--cache-mib (TALLY_CACHE_MIB)", self.cache_mib, "4..65536")
        _ = self.resolved, self.metrics_address  # They complain, if need be.
        if self.crash_at is not None and self.crash_at not in list(Point):
            raise ConfigError("--crash-at (TALLY_CRASH_AT)", self.crash_at, ", ".join(Point))

    @property
    def metrics_address(self) -> Address | None:
        """Where to tell a monitor the figures of this process."""
        return door.address_of(self.metrics)

    @property
    def address(self) -> str:
        """``host:port`` where clients reach the public service of this shard."""
        return self.advertise or self.listen

    @property
    def peers(self) -> Address:
        """Where the internal service listens.

        Raises:
            ConfigError: It is not said, and there is no port that far above the public one.
        """
        if self.peer_listen is not None:
            return Address.parse(PEER_LISTEN, self.peer_listen)
        return _of_peers(PEER_LISTEN, Address.parse(LISTEN, self.listen))

    @property
    def peer_address(self) -> str:
        """``host:port`` where the other processes of the cluster reach the internal service.

        By default it is ``peer_listen``, on the host of ``address`` if that is everywhere; without ``peer_listen`` it
        is ``address``, 100 ports above.
        """
        if self.peer_advertise is not None:
            return str(Address.parse(PEER_ADVERTISE, self.peer_advertise))
        public = Address.parse(ADVERTISE, self.address)
        if self.peer_listen is None:
            return str(_of_peers(PEER_ADVERTISE, public))
        return str(self.peers._replace(host=public.host) if self.peers.is_everywhere else self.peers)

    @property
    def resolved(self) -> Mapping[str, str]:
        """Shard -> ``host:port``, of ``resolve``."""
        return parse_resolve(self.resolve)


def _of_peers(setting: str, public: Address) -> Address:
    """Return the default of an address of the internal service."""
    found = public.of_peers()
    if found is None:
        raise ConfigError(setting, None, f"host:port, for there is no port {PEER_PORT_OFFSET} above {public}")
    return found
