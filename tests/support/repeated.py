"""Starts the proxy that repeats, between all processes of a cluster that call each other over gRPC."""

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from tests.support import commands
from tests.support.cluster import GATEWAY, Cluster
from tests.support.commands import ENDS_WITH_TESTS
from tests.support.etcd import free_ports

CLIENT: Final = "client"
_END_S: Final = 10.0


class Deliveries(NamedTuple):
    """How often one kind was delivered twice at once, and once more later."""

    twice: int
    again: int


class Repeated:
    """``with Repeated(directory, again_s=3.0) as repeated:``, and ``repeated.lay(cluster)`` before it starts."""

    def __init__(self, directory: Path, *, again_s: float) -> None:
        """Prepare.

        Args:
            directory: For what it counts, and its log.
            again_s: After how long something is delivered once more.
        """
        self._counts = directory / "repeated.json"
        self._log = directory / "repeated.log"
        self._again_s = again_s
        self._process: subprocess.Popen[bytes] | None = None
        self._listen: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(_END_S)
            if error is not None:
                print(self._log.read_text(errors="replace")[-4000:])  # noqa: T201 - pytest shows it with the failure.

    def lay(self, cluster: Cluster) -> None:
        """Lay the ways, from the gateway, all shards and ``CLIENT`` to all shards."""
        pairs = [
            (client, shard)
            for client in (*cluster.shards, GATEWAY, CLIENT)
            for shard in cluster.shards
            if client != shard
        ]
        ports = free_ports(len(pairs))
        self._listen = {pair: f"127.0.0.1:{port}" for pair, port in zip(pairs, ports, strict=True)}
        for client in (*cluster.shards, GATEWAY):
            ways = ",".join(f"{shard}={self._listen[client, shard]}" for who, shard in pairs if who == client)
            cluster.env.setdefault(client, {})["TALLY_RESOLVE"] = ways
        arguments = [
            f"{listen}={cluster.address(shard) if client == CLIENT else cluster.peer_address(shard)}"
            for (client, shard), listen in self._listen.items()
        ]
        with self._log.open("ab") as log:
            settings = (str(self._again_s), str(self._counts))
            self._process = subprocess.Popen(
                [*ENDS_WITH_TESTS, sys.executable, "-P", "-m", "tests.support.repeating", *settings, *arguments],
                stdout=log,
                stderr=log,
                env=commands.environment(),
                process_group=0,  # Ctrl-C is for the tests: they end it in its turn.
            )

    def address(self, shard: str) -> str:
        """``host:port`` where a client of the test reaches the public service of a shard."""
        return self._listen[CLIENT, shard]

    def deliveries(self) -> dict[str, Deliveries]:
        """Return what was repeated so far, by kind."""
        found: dict[str, list[int]] = json.loads(self._counts.read_text())
        return {kind: Deliveries(*counts) for kind, counts in found.items()}
