"""How the processes of a cluster talk gRPC: a frozen peer is noticed within 7 seconds, no call is ever repeated."""

from collections.abc import Sequence
from typing import Final

import grpc.aio

from tally.cluster.state import ClusterState
from tally.errors import SecretMissing

MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
RESOLVE_AGAIN_MS: Final = 500
"""How long a name's address is not looked up again while no connection to it comes about."""

_BOTH: Final = [
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
]

CLIENT_OPTIONS: Final[Sequence[tuple[str, int]]] = [
    *_BOTH,
    # Whether a call may be repeated is decided by the outbox, which numbers what it sends.
    ("grpc.enable_retries", 0),
    # Shards are reached directly, whatever http_proxy says.
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A shard that comes back elsewhere under its name is found at once: gRPC would look a name up every 30 s only.
    ("grpc.dns_min_time_between_resolutions_ms", RESOLVE_AGAIN_MS),
]

SERVER_OPTIONS: Final[Sequence[tuple[str, int]]] = [
    *_BOTH,
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    # gRPC would let a second process bind the same port, and hand it half of the connections.
    ("grpc.so_reuseport", 0),
]


CLUSTER_HEADER: Final = "tally-cluster"
SHARD_HEADER: Final = "tally-shard"
SENDER_HEADER: Final = "tally-sender"
SECRET_HEADER: Final = "tally-secret"  # noqa: S105 - a name.


def peer_metadata(state: ClusterState, shard: str, sender: str = "") -> grpc.aio.Metadata:
    """Return what goes with each call of the internal service.

    It proves that the caller belongs to the cluster, and says whom the call is meant for.

    Args:
        state: What is known of the cluster now: its secret may be replaced.
        shard: The id of the shard that is meant.
        sender: The id of the shard that calls.

    Raises:
        SecretMissing: The cluster has no secret.
    """
    if state.secret is None:
        raise SecretMissing
    metadata = grpc.aio.Metadata(
        (SECRET_HEADER, state.secret.reveal()), (CLUSTER_HEADER, state.config.uuid), (SHARD_HEADER, shard)
    )
    if sender:
        metadata.add(SENDER_HEADER, sender)
    return metadata


def is_refused_connection(error: grpc.aio.AioRpcError) -> bool:
    """Tell whether nobody listens at the address: the process is gone."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and "Connection refused" in (error.details() or "")


def open_channel(address: str) -> grpc.aio.Channel:
    """Return a channel to ``host:port``; it connects when it is used."""
    return grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS)
