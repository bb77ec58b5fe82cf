"""The programs of a cluster on one machine, and in which order they end. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tally.address import PEER_PORT_OFFSET, PORT_MAX, Address
from tally.cluster.local_etcd import etcd_command
from tally.command.machine.addresses import LOOPBACK
from tally.command.machine.children import python_module

ETCD: Final = "etcd"
ETCD_PEER: Final = "etcd-peer"
GATEWAY: Final = "gateway"

_FIRST_SHARD_PORT: Final = 9101
_PEER: Final = "-peer"


@dataclass(frozen=True, slots=True)
class Program:
    """What one process runs.

    Attributes:
        name: ``etcd``, ``s1``, ``gateway``; also that of its log.
        command: The command line that starts it, and starts it again.
        address: Where it listens.
        log: Gets its stdout and stderr, after what is there.
    """

    name: str
    command: tuple[str, ...]
    address: str
    log: Path


@dataclass(frozen=True, slots=True)
class Machine:
    """A cluster on one machine.

    Attributes:
        data: The directory of all data.
        http: Where the gateway listens.
        etcd: The endpoints that all use.
        cluster: Its name.
        ports: Process -> port on 127.0.0.1; that of a shard's internal service stands under ``peer_of``.
    """

    data: Path
    http: Address
    etcd: str
    cluster: str
    ports: Mapping[str, int]

    @property
    def shards(self) -> list[str]:
        """The names of its shards."""
        return shards_in(self.ports)

    def local_etcd(self, binary: Path) -> Program:
        """Return the etcd of this machine."""
        command = etcd_command(binary, self.data.absolute() / ETCD, self.ports[ETCD], self.ports[ETCD_PEER])
        return self._program(ETCD, command, f"{LOOPBACK}:{self.ports[ETCD]}")

    def shard(self, name: str) -> Program:
        """Return one shard."""
        address = f"{LOOPBACK}:{self.ports[name]}"
        data = str(self.data.absolute() / name)
        peers = f"{LOOPBACK}:{self.ports[peer_of(name)]}"
        own = ["--id", name, "--data", data, "--listen", address, "--peer-listen", peers]
        return self._program(name, self._python("shard", own), address)

    def gateway(self) -> Program:
        """Return the gateway."""
        map_file = str(self.data.absolute() / GATEWAY / "map.json")
        own = ["--listen", str(self.http), "--map-file", map_file, "--lame-duck-s", "0"]
        return self._program(GATEWAY, self._python("gateway", own), str(self.http))

    def _python(self, module: str, own: Sequence[str]) -> list[str]:
        return [*python_module(module), "--etcd", self.etcd, "--cluster", self.cluster, *own]

    def _program(self, name: str, command: Sequence[str], address: str) -> Program:
        return Program(name, tuple(command), address, self.data / "logs" / f"{name}.log")


def shard_names(shards: int) -> list[str]:
    """Return the names of so many shards."""
    return [f"s{number}" for number in range(1, shards + 1)]


def peer_of(shard: str) -> str:
    """Return what the port of a shard's internal service is called."""
    return f"{shard}{_PEER}"


def shards_in(ports: Iterable[str]) -> list[str]:
    """Return the shards among those that have ports."""
    return [name for name in ports if name != ETCD and not name.endswith(_PEER)]


def port_names(shards: int, *, own_etcd: bool) -> list[str]:
    """Return what needs a port, in order."""
    names = shard_names(shards)
    return [*([ETCD, ETCD_PEER] if own_etcd else []), *names, *(peer_of(name) for name in names)]


def usual_ports(shards: int) -> dict[str, int]:
    """Return the ports that the README names."""
    numbered = dict(zip(shard_names(shards), range(_FIRST_SHARD_PORT, PORT_MAX + 1), strict=False))
    peers = {peer_of(name): port + PEER_PORT_OFFSET for name, port in numbered.items()}
    return {ETCD: 2379, ETCD_PEER: 2380, **numbered, **peers}


def stages(names: Sequence[str]) -> list[list[str]]:
    """Return who ends when: first who is asked by others from outside, last what all others need."""
    shards = [name for name in names if name not in {GATEWAY, ETCD}]
    return [[name for name in names if name == GATEWAY], shards, [name for name in names if name == ETCD]]
