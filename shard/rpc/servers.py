"""The two gRPC servers of a shard: the public one, and the internal one for the processes of its cluster.

Invariants:
  * the public server knows nothing of the internal service, not even by reflection;
  * whoever can reach them, and whatever is sent: both hold a bounded number of connections, the public one a bounded
    number of calls and bytes of messages (``front.py``);
  * the internal server has no other service, and no reflection; ``PeerGuard`` stands before it.
"""

import errno
from collections.abc import Mapping, Sequence
from typing import Final

import grpc.aio
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from protos.tally.internal.v1 import node_pb2_grpc
from protos.tally.v1 import analytics_pb2, analytics_pb2_grpc
from shard.rpc.admission import MESSAGE_BYTES_MAX
from shard.rpc.front import Front
from shard.rpc.parts_limit import PartsLimit
from shard.rpc.peer_guard import PeerGuard
from tally.address import Address
from tally.client.channel import SERVER_OPTIONS
from tally.errors import AddressTaken
from tally.limits import connections_max
from tally.listening import check_free

_PUBLIC_FILES: Final[Sequence[FileDescriptor]] = (
    analytics_pb2.DESCRIPTOR,
    health_pb2.DESCRIPTOR,
    reflection_pb2.DESCRIPTOR,
)


_BOTH: Final = {
    **dict(SERVER_OPTIONS),
    # Beyond 1000 calls that Python has not taken yet, gRPC resets streams at random: CANCELLED, without a word. Taken
    # are all, and at once; whether they are served too is decided then.
    "grpc.server.max_pending_requests": 1_000_000,
    "grpc.server.max_pending_requests_hard_limit": 1_000_000,
    # So much comes of a message that nobody reads yet, also when the network is fast.
    "grpc.http2.lookahead_bytes": 16_384,
    "grpc.http2.bdp_probe": 0,
}
_PUBLIC_OPTIONS: Final[Mapping[str, int]] = {
    **_BOTH,
    "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
    # Far above what is served: streams beyond it are reset, and not refused with a word, if they cross on the way.
    "grpc.max_concurrent_streams": 10_000,
    # Who holds streams and takes no answers keeps them for so long; others connect again, and notice nothing.
    "grpc.max_connection_idle_ms": 120_000,
    "grpc.max_connection_age_ms": 1_800_000,
    "grpc.max_connection_age_grace_ms": 60_000,
}
_PEER_OPTIONS: Final[Mapping[str, int]] = {**_BOTH, "grpc.max_connection_idle_ms": 600_000}

_PUBLIC_CONNECTIONS: Final = 16_000
_PEER_CONNECTIONS: Final = 4_000
_CONNECTIONS: Final = _PUBLIC_CONNECTIONS + _PEER_CONNECTIONS


def _options(options: Mapping[str, int], connections: int) -> list[tuple[str, int]]:
    """Return a server's options, with its share of the connections: others need files too, the database above all."""
    share = connections * connections_max(_CONNECTIONS) // _CONNECTIONS
    return [*options.items(), ("grpc.max_allowed_incoming_connections", share)]


def public_server(
    analytics: analytics_pb2_grpc.AnalyticsServicer, healthy: health.aio.HealthServicer
) -> grpc.aio.Server:
    """Return a server of all that clients may call; it listens nowhere yet."""
    server = grpc.aio.server(interceptors=[Front()], options=_options(_PUBLIC_OPTIONS, _PUBLIC_CONNECTIONS))
    analytics_pb2_grpc.add_AnalyticsServicer_to_server(analytics, server)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    services = [service.full_name for file in _PUBLIC_FILES for service in file.services_by_name.values()]
    # The default pool has every message of this process, and reflection would tell of each that is asked for by name.
    reflection.enable_server_reflection(services, server, pool=_pool_of(_PUBLIC_FILES))
    return server


def peer_server(node: node_pb2_grpc.NodeServicer, guard: PeerGuard) -> grpc.aio.Server:
    """Return a server of what the processes of the cluster call, and ``guard`` lets in; it listens nowhere yet."""
    server = grpc.aio.server(interceptors=[guard, PartsLimit()], options=_options(_PEER_OPTIONS, _PEER_CONNECTIONS))
    node_pb2_grpc.add_NodeServicer_to_server(node, server)
    return server


def listen(server: grpc.aio.Server, address: Address, option: str) -> None:
    """Let a server take connections at ``address``, once it is started.

    Raises:
        AddressTaken: It can't be listened on; the error names ``option``.
    """
    try:
        server.add_insecure_port(str(address))
    except RuntimeError as exc:
        check_free(option, address)  # gRPC does not say why.
        raise AddressTaken(option, str(address), errno.EADDRINUSE) from exc  # It was until now.


def _pool_of(files: Sequence[FileDescriptor]) -> DescriptorPool:
    """Return a pool of these files and of what they import, and nothing else."""
    pool, added = DescriptorPool(), set[str]()

    def add(file: FileDescriptor) -> None:
        if file.name in added:
            return
        added.add(file.name)
        for imported in file.dependencies:
            add(imported)
        proto = FileDescriptorProto()
        file.CopyToProto(proto)
        pool.Add(proto)

    for file in files:
        add(file)
    return pool
