"""Tally as an operator runs it: etcd, shards and gateways, each a process of its own."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.errors import ProcessEnded
from bench.peers import nginx
from bench.peers.system import READY_S, Place, System
from tally.address import Address
from tally.cluster.local_etcd import etcd_command, find_etcd
from tally.command.machine.addresses import LOOPBACK, fresh_ports
from tally.command.machine.programs import shard_names

_ROOT: Final = str(Path(__file__).parents[2])
_CREATE_S: Final = 30.0


class Tally(System):
    """A cluster on this machine.

    Attributes:
        shards: The names of its shards.
        grpc: Where its first shard takes gRPC, once it runs.
    """

    name = "tally"

    def __init__(
        self, place: Place, *, shards: int = 1, copies: int = 1, gateways: int = 1, gateway_flags: Sequence[str] = ()
    ) -> None:
        """Prepare one.

        Args:
            place: Where it runs.
            shards: How many.
            copies: Of each slot.
            gateways: How many processes share the gateways' address.
            gateway_flags: More flags of the gateways.
        """
        super().__init__(place)
        self.shards = shard_names(shards)
        self.grpc = Address(LOOPBACK, 0)
        self._copies = copies
        self._gateways = gateways
        self._gateway_flags = gateway_flags
        extra = [f"{gateways} gateways"] * (gateways > 1) + [f"{shards} shards"] * (shards > 1)
        extra += [f"{copies} copies"] * (copies > 1)
        self.title = ", ".join(["Tally", *extra])

    def start(self) -> None:
        """Start etcd, make the cluster, start shards and gateways, and wait until every slot serves."""
        ports = fresh_ports()
        etcd = Address(LOOPBACK, next(ports))
        data = self.place.directory / "etcd"
        self.processes.start("etcd", etcd_command(find_etcd(), data, etcd.port, next(ports)))
        self.processes.wait_until(lambda: nginx.answers(etcd, "/health"), name="etcd", within_s=READY_S)
        self._create(etcd)
        shard_addresses = [Address(LOOPBACK, next(ports)) for _ in self.shards]
        for shard, address in zip(self.shards, shard_addresses, strict=True):
            own = ["--id", shard, "--data", str(self.place.directory / shard), "--listen", str(address)]
            own += ["--peer-listen", str(Address(LOOPBACK, next(ports)))]
            self._start(shard, "shard", etcd, own)
        gateway = Address(LOOPBACK, next(ports))
        own = ["--listen", str(gateway), "--workers", str(self._gateways), "--lame-duck-s", "0", *self._gateway_flags]
        self._start("gateway", "gateway", etcd, own)
        self.processes.wait_until(lambda: nginx.answers(gateway, "/readyz"), name="gateway", within_s=READY_S)
        self.address, self.grpc = gateway, shard_addresses[0]

    def shards_resident_mib(self) -> float:
        """Return the memory in MiB that its shards hold now."""
        return self.processes.resident_mib(*self.shards)

    def _create(self, etcd: Address) -> None:
        made = subprocess.run(
            [
                *(sys.executable, "-P", "-m", "tally", "create", "--etcd", str(etcd)),
                *("--shards", str(len(self.shards)), "--copies", str(self._copies)),
            ],
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=_CREATE_S,
        )
        if made.returncode:
            raise ProcessEnded("tally create", f"ended with status {made.returncode}", made.stderr)

    def _start(self, name: str, module: str, etcd: Address, own: Sequence[str]) -> None:
        command = [sys.executable, "-P", "-m", module, "--etcd", str(etcd), *own]
        self.processes.start(name, command, {"PYTHONPATH": _ROOT})
