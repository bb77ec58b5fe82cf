"""The two gRPC servers of a shard: the public one, and the internal one for the processes of its cluster.

Invariants:
  * the public server knows nothing of the internal service, not even by reflection;
  * the internal server has no other service, and no reflection.
"""

import errno
from collections.abc import Sequence
from typing import Final

import grpc.aio
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from protos.tally.internal.v1 import node_pb2_grpc
from protos.tally.v1 import analytics_pb2, analytics_pb2_grpc
from tally.address import Address
from tally.client.channel import SERVER_OPTIONS
from tally.command.machine.addresses import check_free
from tally.errors import AddressTaken

_PUBLIC_FILES: Final[Sequence[FileDescriptor]] = (
    analytics_pb2.DESCRIPTOR,
    health_pb2.DESCRIPTOR,
    reflection_pb2.DESCRIPTOR,
)


def public_server(
    analytics: analytics_pb2_grpc.AnalyticsServicer, healthy: health.aio.HealthServicer
) -> grpc.aio.Server:
    """Return a server of all that clients may call; it listens nowhere yet."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    analytics_pb2_grpc.add_AnalyticsServicer_to_server(analytics, server)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    services = [service.full_name for file in _PUBLIC_FILES for service in file.services_by_name.values()]
    # The default pool has every message of this process, and reflection would tell of each that is asked for by name.
    reflection.enable_server_reflection(services, server, pool=_pool_of(_PUBLIC_FILES))
    return server


def peer_server(node: node_pb2_grpc.NodeServicer) -> grpc.aio.Server:
    """Return a server of what the processes of the cluster call; it listens nowhere yet."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
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
