"""The ways between the processes of a cluster, so that a test can cut one from another: nodes cut off, one-way ways."""

from collections.abc import Collection, Iterator
from functools import partial
from typing import Final

from tests.support.cluster import GATEWAY, Cluster
from tests.support.proxy import PASS, Line, Proxies, Proxy

ETCD: Final = "etcd"


class Wires:
    """Lays ways between some processes of a cluster that is about to start, each from who connects to who listens."""

    def __init__(self, proxies: Proxies, cluster: Cluster, *, around: Collection[str] = ()) -> None:
        """Lay them.

        Args:
            proxies: Where they end when the test does.
            cluster: Which; its processes are told where the ways begin.
            around: Only those ways that lead from or to one of these processes; none: all.
        """
        self._ways: dict[tuple[str, str], Proxy] = {}
        self._blocked: set[tuple[str, str]] = set()
        self._line = PASS
        for client, server in _pairs(cluster):
            if not around or client in around or server in around:
                self._ways[client, server] = proxies.to(partial(_address, cluster, server))
        for client in (*cluster.shards, GATEWAY):
            addresses = {
                server: way.address for (who, server), way in self._ways.items() if who == client and server != ETCD
            }
            if addresses:
                text = ",".join(f"{shard}={address}" for shard, address in addresses.items())
                cluster.env.setdefault(client, {})["TALLY_RESOLVE"] = text
            if (client, ETCD) in self._ways:
                cluster.etcd_by[client] = self._ways[client, ETCD].address

    def block(self, sender: str, receiver: str) -> None:
        """Let nothing pass from one to the other any more, whoever of them connected; the other direction stays."""
        assert (sender, receiver) in self._ways or (receiver, sender) in self._ways
        self._blocked.add((sender, receiver))
        self._behave()

    def cut(self, one: str, other: str) -> None:
        """Let nothing pass between two any more; nobody is told."""
        self.block(one, other)
        self.block(other, one)

    def cut_off(self, name: str) -> None:
        """Let nothing pass between one and all others any more."""
        for ends in self._ways:
            if name in ends:
                self.cut(*ends)

    def all_are(self, line: Line) -> None:
        """Make all ways late or slow; what is blocked stays so."""
        self._line = line
        self._behave()

    def strand(self, name: str) -> None:
        """Let nothing pass any more on connections that lead from or to one; new ones are fine."""
        for ends, way in self._ways.items():
            if name in ends:
                way.strand()

    def heal(self) -> None:
        """Let everything pass again."""
        self._blocked.clear()
        self._behave()

    def _behave(self) -> None:
        for (client, server), way in self._ways.items():
            there, back = (client, server) not in self._blocked, (server, client) not in self._blocked
            way.behave(
                Line(to_server=there, to_client=back, delay_s=self._line.delay_s, bytes_per_s=self._line.bytes_per_s)
            )


def _pairs(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Give (who connects, who listens) for all that a cluster does."""
    for client in (*cluster.shards, GATEWAY):
        for server in (*cluster.shards, ETCD):
            if client != server:
                yield client, server


def _address(cluster: Cluster, server: str) -> str:
    return cluster.etcd.endpoint if server == ETCD else cluster.peer_address(server)
