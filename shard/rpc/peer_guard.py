"""Who may call the internal service: the processes of this cluster that mean this shard. All its methods pass here.

Invariants:
  * without the secret of the cluster nothing of a call is read, and its refusal tells nothing: neither who this is, nor
    what there is to call;
  * the secret is compared in constant time;
  * what is meant for another shard or cluster, that had this address before, is refused.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import grpc
import grpc.aio
import structlog

from tally.client.channel import CLUSTER_HEADER, SECRET_HEADER, SHARD_HEADER
from tally.cluster.state import ClusterState

log = structlog.get_logger()

LOG_EVERY_S: Final = 60.0  # Strangers must not fill the log.

Pairs = Iterable[tuple[str, str | bytes]]


class Refusal(NamedTuple):
    """Why a call is not served."""

    code: grpc.StatusCode
    text: str


STRANGER: Final = Refusal(grpc.StatusCode.UNAUTHENTICATED, "who are you?")


def refusal(metadata: Pairs, state: ClusterState, shard: str) -> Refusal | None:
    """Decide on a call by what goes with it; None: it is served. Pure.

    Args:
        metadata: Of the call.
        state: What this shard knows of its cluster.
        shard: Its id.
    """
    pairs = list(metadata)
    offered = _all(pairs, SECRET_HEADER)
    if state.secret is None or len(offered) != 1 or not state.secret.is_same(offered[0]):
        return STRANGER
    clusters, shards = _all(pairs, CLUSTER_HEADER), _all(pairs, SHARD_HEADER)
    if (clusters, shards) == ([state.config.uuid], [shard]):
        return None
    meant = f"not {', '.join(map(str, shards)) or 'none'} of {', '.join(map(str, clusters)) or 'none'}"
    return Refusal(
        grpc.StatusCode.FAILED_PRECONDITION, f"this is shard {shard} of cluster {state.config.uuid}, {meant}"
    )


def _all(pairs: Sequence[tuple[str, str | bytes]], name: str) -> list[str | bytes]:
    return [value for key, value in pairs if key == name]


class PeerGuard(grpc.aio.ServerInterceptor):
    """Stands before all methods of the internal service, those that there will be too."""

    def __init__(self, state: Callable[[], ClusterState], shard: str) -> None:
        """Prepare.

        Args:
            state: What this shard knows of its cluster now.
            shard: Its id.
        """
        self._state = state
        self._shard = shard
        self._strangers = 0  # Since the last line in the log.
        self._logged_at = -LOG_EVERY_S

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Awaitable[grpc.RpcMethodHandler[Any, Any] | None]"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Return what serves a call: the method that is asked for, or a refusal."""
        refused = refusal(handler_call_details.invocation_metadata or (), self._state(), self._shard)
        if refused is None:
            return await continuation(handler_call_details)
        if refused is STRANGER:
            self._note_stranger(time.monotonic())
        return _refusing(refused)

    def _note_stranger(self, now: float) -> None:
        self._strangers += 1
        if now >= self._logged_at + LOG_EVERY_S:
            log.warning("strangers_refused", calls=self._strangers)
            self._strangers, self._logged_at = 0, now


def _refusing(refused: Refusal) -> "grpc.RpcMethodHandler[Any, Any]":
    """Return a method that refuses. It is one of streams, whatever was asked for: so no request is read."""

    async def refuse(_: object, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        await context.abort(refused.code, refused.text)

    return grpc.stream_stream_rpc_method_handler(refuse)
