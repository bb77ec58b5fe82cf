"""The way from this shard's copies to those on others: one stream a shard, and a call of its own for each clone."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import grpc
import grpc.aio
import structlog

from protos.tally.internal.v1 import node_pb2, node_pb2_grpc
from shard.clones.target import CloneTarget
from shard.engine.calls import Calls
from shard.replica.words import Clone, Message
from shard.rpc.calls_wire import MESSAGE_BYTES, Call, answer_of, put_call
from tally.client.channel import is_refused_connection, peer_metadata
from tally.client.link import ShardLink
from tally.cluster.controller.node_words import name_to_wire
from tally.cluster.reader import ClusterReader
from tally.cluster.rows import Request
from tally.cluster.state import ClusterState
from tally.tasks import aside, awaited

log = structlog.get_logger()

PART_MAX_S: Final = 5.0  # Without a part of a clone for so long the call is over.

Link = ShardLink[node_pb2.ReplicateRequest, node_pb2.ReplicateResponse]


class Peers:
    """All ways out of one shard. Belongs to one event loop; ``Outside`` of its copies."""

    def __init__(self, shard: str, reader: ClusterReader, ask: Callable[[Request], None]) -> None:
        """Prepare.

        Args:
            shard: This shard's id.
            reader: Knows where the others are.
            ask: Passes what is asked of the controller on.
        """
        self._shard = shard
        self._reader = reader
        self._ask = ask
        self._started: Calls | None = None
        self._links: dict[str, Link] = {}
        self._to_send: dict[str, deque[Call]] = {}
        self._clones: dict[int, asyncio.Task[None]] = {}  # By slot.
        self._alive: dict[str, str] = {}  # Shard -> bits of the process that was alive last.

    def start(self, calls: Calls) -> None:
        """Begin to reach others on behalf of the copies whose calls these are."""
        self._started = calls
        self._alive.update(self._reader.state.alive)
        self._reader.on_change(self._state_changed)

    async def close(self) -> None:
        """End all links and calls."""
        clones = list(self._clones.values())
        for clone in clones:
            clone.cancel()
        await asyncio.gather(*clones, return_exceptions=True)
        await asyncio.gather(*(link.close() for link in self._links.values()), return_exceptions=True)

    # Outside.

    def ask(self, request: Request) -> None:
        """Ask the controller for a change of a row."""
        self._ask(request)

    def reread_map(self) -> None:
        """Read the map soon."""
        self._reader.refresh_soon()

    def call(self, shard: str, slot: int, call: int, message: Message) -> None:
        """Ask a copy on another shard."""
        link = self._link(shard)
        if link is None:
            # Not from within the step that calls.
            asyncio.get_running_loop().call_soon(lambda: self._calls.failed(shard, call, refused=False))
        elif isinstance(message, Clone):
            self._pull(link, Call(call, slot, message))
        else:
            self._to_send.setdefault(shard, deque()).append(Call(call, slot, message))
            link.wake()

    @property
    def _calls(self) -> Calls:
        assert self._started is not None, "start() comes first"
        return self._started

    # The streams.

    def _link(self, shard: str) -> Link | None:
        held = self._links.get(shard)
        if held is not None:
            return held
        address = self._reader.state.address_of(shard)
        if address is None:
            return None
        link: Link = ShardLink(
            shard,
            address,
            method=lambda stub: stub.Replicate,
            metadata=lambda: peer_metadata(self._reader.state, shard, self._shard),
            fill=lambda: self._fill(shard),
            on_response=lambda response: self._on_response(shard, response),
            on_broken=lambda refused: self._broken(shard, refused=refused),
        )
        self._links[shard] = link
        link.start(f"copies on {shard}")
        return link

    def _fill(self, shard: str) -> node_pb2.ReplicateRequest | None:
        calls, size = self._to_send.get(shard), 0
        if not calls:
            return None
        request = node_pb2.ReplicateRequest()
        while calls and size < MESSAGE_BYTES:
            call = calls.popleft()
            if self._calls.is_open(call.call):  # Else it was given up while the stream was stuck.
                size += put_call(request, call)
        return request if size else None

    def _on_response(self, shard: str, response: node_pb2.ReplicateResponse) -> None:
        for wire in response.answers:
            answer = answer_of(wire)
            if answer is not None:
                self._calls.answered(shard, wire.slot, wire.call, answer)

    def _broken(self, shard: str, *, refused: bool) -> None:
        self._to_send.pop(shard, None)
        self._reader.refresh_soon()  # Where it is, or the secret, may be another by now.
        self._calls.all_failed(shard, refused=refused)

    def _state_changed(self, state: ClusterState) -> None:
        for shard in [shard for shard, link in self._links.items() if state.address_of(shard) != link.address]:
            aside(self._links.pop(shard).close(), name=f"end of the link to {shard}")
            self._broken(shard, refused=False)
        for shard, bits in state.alive.items():
            if self._alive.get(shard) != bits:
                self._alive[shard] = bits
                self._calls.restarted(shard)

    # Clones.

    def _pull(self, link: Link, call: Call) -> None:
        before = self._clones.pop(call.slot, None)
        if before is not None:
            before.cancel()  # A newer call replaces it (rule 9).
        task = awaited(self._clone(link, call), name=f"clone of slot {call.slot}")
        self._clones[call.slot] = task
        # Also when it is cancelled before it began.
        task.add_done_callback(lambda _: self._clone_ended(link.shard, call, task))

    def _clone_ended(self, shard: str, call: Call, task: asyncio.Task[None]) -> None:
        if self._clones.get(call.slot) is task:
            del self._clones[call.slot]
        failure = None if task.cancelled() else task.exception()
        refused = isinstance(failure, grpc.aio.AioRpcError) and is_refused_connection(failure)
        if failure is not None and not isinstance(failure, grpc.aio.AioRpcError):
            log.warning("clone_broken", slot=call.slot, source=shard, reason=repr(failure))
        self._calls.failed(shard, call.call, refused=refused)  # Nothing, if all of it came.

    async def _clone(self, link: Link, call: Call) -> None:
        target = CloneTarget(generation := self._calls.new_generation())
        whole = False
        try:
            whole = await self._take_parts(link.stub, link.shard, call, target)
        finally:
            if target.staged and not whole:
                self._calls.drop_generation(generation)

    async def _take_parts(
        self, stub: "node_pb2_grpc.NodeAsyncStub", shard: str, call: Call, target: CloneTarget
    ) -> bool:
        assert isinstance(call.message, Clone)
        request = node_pb2.CloneRequest(slot=call.slot, incarnation=bytes.fromhex(call.message.incarnation))
        if call.message.head is not None:
            request.head.CopyFrom(name_to_wire(call.message.head))
        stream = stub.Clone(request, metadata=peer_metadata(self._reader.state, shard, self._shard))
        try:
            while True:
                async with asyncio.timeout(PART_MAX_S):
                    message = await stream.read()
                if message is grpc.aio.EOF:
                    break
                assert isinstance(message, node_pb2.CloneResponse)
                if not await self._calls.take_part(call.call, target.take(message), target.bytes_so_far):
                    return False
            self._calls.cloned(shard, call.call, target.finish())
        finally:
            with suppress(Exception):
                stream.cancel()
        return True
