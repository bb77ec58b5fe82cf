"""The calls between the controller and the shards, over gRPC: one channel a shard, errors become ours.

Each call names the cluster and the shard that it is meant for: at a reused address another one refuses it.
What the messages say is in ``node_words.py``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

import grpc
import grpc.aio

from protos.tally.internal.v1 import node_pb2, node_pb2_grpc
from tally.client.channel import open_channel, peer_metadata
from tally.cluster.controller.node_words import health_of, request_of, requests_in, switches_message
from tally.cluster.planning.health import ShardHealth
from tally.cluster.rows import Refusal, Request
from tally.cluster.state import ClusterState
from tally.errors import NotController, Unavailable, Unreachable
from tally.tasks import answer_of, aside, is_cancelled

T = TypeVar("T")

STATUS_S: Final = 1.0
SWITCH_S: Final = 1.0
HINT_S: Final = 0.3  # One frozen shard must not keep the next hint from all others; they read the map every second.
CHANGE_S: Final = 3.0


class NodeCalls:
    """Open channels to the shards of a cluster. Belongs to one event loop; all methods may run at the same time."""

    def __init__(self, state: Callable[[], ClusterState]) -> None:
        """Prepare; ``state`` returns what is known of the cluster. A channel connects when it is first used."""
        self._state = state
        self._links: dict[str, _Link] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def ask_health(self, shard: str, address: str) -> ShardHealth | None:
        """Ask a shard how it is; None if it does not answer within a second, or another one does in its place."""
        link = self._link(shard, address)
        try:
            status = await _answer(
                shard,
                link.stub.Status(
                    node_pb2.StatusRequest(), timeout=STATUS_S, metadata=peer_metadata(self._state(), shard)
                ),
            )
        except (grpc.aio.AioRpcError, Unreachable):
            return None
        return health_of(status)

    async def give_switches(self, address: str, shard: str, switches: Mapping[int, str]) -> None:
        """Ask a primary to hand slots over: slot -> to whom.

        Raises:
            Unavailable: It did not answer.
        """
        link = self._link(shard, address)
        try:
            await _answer(
                shard,
                link.stub.SwitchSlots(
                    switches_message(switches), timeout=SWITCH_S, metadata=peer_metadata(self._state(), shard)
                ),
            )
        except grpc.aio.AioRpcError as exc:
            raise Unavailable(_no_answer(shard, exc)) from exc

    async def hint_map(self, state: ClusterState) -> None:
        """Tell all members that there is a new map; who does not hear it reads the map within a second anyway."""
        for shard in self._links.keys() - state.members.keys():
            self._drop(shard)
        await asyncio.gather(*(self._hint_one(shard, address) for shard, address in state.addresses().items()))

    async def change_rows(
        self, address: str, shard: str, wishes: Sequence[node_pb2.RowChangeWish], *, pass_on: bool = False
    ) -> list[str]:
        """Ask the controller for changes of rows.

        Args:
            address: Where ``shard`` is reached.
            shard: The controller, or with ``pass_on`` one that may reach it.
            wishes: The changes.
            pass_on: Whether it is to ask the controller in its turn.

        Returns:
            One for each wish: "" if it was executed, else why not.

        Raises:
            NotController: Another shard is, or nobody; what was asked for may have been executed.
            Unreachable: No answer; the same.
            Unavailable: The controller could not do it, or the answer can't be used; the same.
        """
        link = self._link(shard, address)
        message = node_pb2.ChangeRowsRequest(changes=wishes, pass_on=pass_on)
        try:
            answer = await _answer(
                shard,
                link.stub.ChangeRows(message, timeout=CHANGE_S, metadata=peer_metadata(self._state(), shard)),
            )
        except grpc.aio.AioRpcError as exc:
            if exc.code() is grpc.StatusCode.FAILED_PRECONDITION:
                raise NotController(shard) from exc
            if exc.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                raise Unreachable(_no_answer(shard, exc)) from exc
            raise Unavailable(_no_answer(shard, exc)) from exc
        if len(answer.refusals) != len(wishes):
            raise Unavailable(f"shard {shard} gave {len(answer.refusals)} answers to {len(wishes)} requests")
        return list(answer.refusals)

    async def close(self) -> None:
        """Close all channels; call it when nothing is under way any more."""
        for shard in list(self._links):
            self._drop(shard)
        await asyncio.gather(*self._closing)

    async def _hint_one(self, shard: str, address: str) -> None:
        link = self._link(shard, address)
        try:
            await _answer(
                shard,
                link.stub.HintMap(
                    node_pb2.HintMapRequest(), timeout=HINT_S, metadata=peer_metadata(self._state(), shard)
                ),
            )
        except (grpc.aio.AioRpcError, Unreachable):
            return

    def _link(self, shard: str, address: str) -> "_Link":
        """Return the channel to a shard; another one if the shard has moved."""
        link = self._links.get(shard)
        if link is not None and link.address == address:
            return link
        if link is not None:
            self._drop(shard)
        link = self._links[shard] = _Link(address)
        return link

    def _drop(self, shard: str) -> None:
        closing = aside(self._links.pop(shard).close(), name=f"end of the calls to {shard}")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


class _Link:
    """A channel to one shard."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = open_channel(address)
        self.stub: node_pb2_grpc.NodeAsyncStub = node_pb2_grpc.NodeStub(self._channel)

    async def close(self) -> None:
        # Calls that are under way may end: gRPC would cancel whoever waits for them.
        await self._channel.close(CHANGE_S)


async def execute_wishes(
    execute: Callable[[Sequence[Request]], Awaitable[Sequence[Refusal | None]]],
    wishes: Iterable[node_pb2.RowChangeWish],
) -> list[str]:
    """Return the answers to a ``ChangeRowsRequest``; what can't be read is refused, and the rest executed.

    Args:
        execute: ``Controller.request``, whose errors pass through.
        wishes: As they came.
    """
    parsed = [request_of(wish) for wish in wishes]
    answers = iter(await execute(requests_in(parsed)))
    refusals = (one if isinstance(one, str) else next(answers) for one in parsed)
    return [one.reason if isinstance(one, Refusal) else one or "" for one in refusals]


async def _answer(shard: str, call: Awaitable[T]) -> T:
    """Return the answer to a call; its errors pass through.

    Raises:
        Unreachable: The channel was closed under it: the shard has moved, or left the cluster.
    """
    try:
        return await answer_of(call)
    except asyncio.CancelledError as exc:
        if is_cancelled():
            raise
        raise Unreachable(f"shard {shard} does not answer: it has another address now") from exc


def _no_answer(shard: str, error: grpc.aio.AioRpcError) -> str:
    return f"shard {shard} does not answer: {error.code().name} {error.details()}"
