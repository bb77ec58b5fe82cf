"""The settings of one gateway process. What all processes must agree on stands in etcd instead."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tally.address import PORT_MAX, Address
from tally.cluster.etcd import EtcdSettings
from tally.cluster.keys import Keys
from tally.cluster.resolve import parse_resolve
from tally.errors import ConfigError
from tally.monitor import door

LISTEN: Final = "--listen (TALLY_LISTEN)"
WORKERS_MAX: Final = 256


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """How one gateway serves.

    Attributes:
        etcd: Where etcd is, and how to get in.
        keys: Of the cluster to serve.
        listen: ``host:port`` to take HTTP on; port 0 takes a free one.
        map_file: Where to keep the map, to start from when etcd is away; None: nowhere.
        resolve: Where this process reaches shards, if not where etcd says: ``id=host:port,...``.
        queue_events: How many events may wait to be counted.
        slot_queue_events: How many of them may wait for one slot.
        reads_waiting: How many readers may wait.
        deadline_s: How long a request may take from its complete head to its answer.
        header_timeout_s: How long a request's head may take to arrive; its body has as long again.
        idle_timeout_s: How long a connection may lie idle.
        connections: How many may be open at a time.
        lame_duck_s: How long it goes on serving after the signal to end, while ``/readyz`` says that it goes.
        metrics: ``host:port`` to answer ``GET /metrics`` on, port 0 for a free one; None: nowhere. With several workers
            the next ones take the ports after it.
        workers: How many processes share the address.
        worker: Which of them this process is; None: it is alone, or supervises them.
    """

    etcd: EtcdSettings
    keys: Keys
    listen: str = "127.0.0.1:8080"
    map_file: Path | None = None
    resolve: str = ""
    queue_events: int = 10_000
    slot_queue_events: int = 5_000
    reads_waiting: int = 10_000
    deadline_s: float = 8.0
    header_timeout_s: float = 10.0
    idle_timeout_s: float = 75.0
    connections: int = 10_000
    lame_duck_s: float = 5.0
    metrics: str | None = None
    workers: int = 1
    worker: int | None = None

    def __post_init__(self) -> None:
        _check("--queue-events (TALLY_QUEUE_EVENTS)", self.queue_events, 1, 1_000_000)
        _check("--slot-queue-events (TALLY_SLOT_QUEUE_EVENTS)", self.slot_queue_events, 1, self.queue_events)
        _check("--reads-waiting (TALLY_READS_WAITING)", self.reads_waiting, 1, 1_000_000)
        _check("--deadline-s (TALLY_DEADLINE_S)", self.deadline_s, 0.1, 60)
        _check("--header-timeout-s (TALLY_HEADER_TIMEOUT_S)", self.header_timeout_s, 0.1, 3600)
        _check("--idle-timeout-s (TALLY_IDLE_TIMEOUT_S)", self.idle_timeout_s, 0.1, 3600)
        _check("--connections (TALLY_CONNECTIONS)", self.connections, 1, 1_000_000)
        _check("--lame-duck-s (TALLY_LAME_DUCK_S)", self.lame_duck_s, 0, 3600)
        _check("--workers (TALLY_WORKERS)", self.workers, 1, WORKERS_MAX)
        _ = self.address, self.resolved, self.metrics_address  # They complain, if need be.

    @property
    def address(self) -> Address:
        """Host and port of ``listen``."""
        return Address.parse(LISTEN, self.listen, port_min=0)

    @property
    def finish_s(self) -> float:
        """How long the requests under way may take to be answered when the process ends."""
        return self.deadline_s + 1

    @property
    def resolved(self) -> Mapping[str, str]:
        """Shard -> ``host:port``, of ``resolve``."""
        return parse_resolve(self.resolve)

    @property
    def metrics_address(self) -> Address | None:
        """Where to tell a monitor the figures of this process."""
        address = door.address_of(self.metrics)
        if address is None or address.port == 0:
            return address
        if address.port + self.workers - 1 > PORT_MAX:
            allowed = f"a port with {self.workers - 1} more after it"
            raise ConfigError("--metrics (TALLY_METRICS)", self.metrics, allowed)
        return address._replace(port=address.port + (self.worker or 0))


def _check(setting: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ConfigError(setting, value, f"{least} to {most}")
