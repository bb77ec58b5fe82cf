"""What the commands ask the shards themselves, over gRPC; ``recovery/fence_calls.py`` asks for heads."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import grpc.aio

from protos.tally.internal.v1 import node_pb2, node_pb2_grpc
from tally import tasks
from tally.client.channel import open_channel, peer_metadata
from tally.cluster.controller.node_words import name_from_wire
from tally.cluster.op_name import NOTHING, OpName
from tally.cluster.planning.standing import Told
from tally.cluster.state import ClusterState
from tally.errors import TallyError

STATUS_TIMEOUT_S: Final = 1.0  # A person waits for it, and a slow shard is no dead one.
_FOUND_TIMEOUT_S: Final = 10.0  # It is made durable.


class NotFounded(TallyError):
    """A shard did not begin an empty copy. The map was not changed."""

    def __init__(self, shard: str, slot: int, reason: str) -> None:
        super().__init__(shard, slot, reason)
        self.shard = shard
        self.slot = slot
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.shard} did not begin an empty copy of slot {self.slot}: {self.reason}; nothing was given up"


class HeldCopy(NamedTuple):
    """A copy as its shard tells it.

    Attributes:
        incarnation: Its name, as hex digits like in the map; "" while it has none.
        head: What it applied last; its number says how many ops that are.
        complete: It has all that these say; False while it is coming.
        clone_bytes: How much came so far.
        epoch: The highest that it has stored.
    """

    incarnation: str
    head: OpName = NOTHING
    complete: bool = True
    clone_bytes: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Redundancy:
    """How safe the slots are that a shard is primary of, as it says; sums begin with its process.

    Attributes:
        single_copy_s: For how long they were on a single copy, in slot-seconds: two slots for a second are 2.
        copies_missing: How many copies they have less than wanted now, over all.
        clones, catch_ups: How many copies came to this shard whole, and how many by the ops that they had missed.
        terms_refused: How many of its terms another copy ended that knew a higher epoch before the map here did.
    """

    single_copy_s: float = 0.0
    copies_missing: int = 0
    clones: int = 0
    catch_ups: int = 0
    terms_refused: int = 0


@dataclass(frozen=True, slots=True)
class ShardAnswer:
    """What a shard says of itself.

    Attributes:
        serving: Slot -> epoch in which it serves it as primary.
        copies: Slot -> the copy that is there, whether the map names it or not.
        disk_full: It takes no new copies.
        takes_no_events: Nor events, so the slots that it is primary of take no writes.
        stopping: It is about to end.
        redundancy: How safe its slots are.
        refusing: Slots that it serves, but in which it refuses something -> why, in a word.
        map_epochs: By slot, the epochs of the newest map that it knows; empty without one.
        map_shards: Who has a copy in sync of some slot, by that map.
    """

    serving: Mapping[int, int] = field(default_factory=dict)
    copies: Mapping[int, HeldCopy] = field(default_factory=dict)
    disk_full: bool = False
    takes_no_events: bool = False
    stopping: bool = False
    redundancy: Redundancy = Redundancy()
    map_epochs: tuple[int, ...] = ()
    map_shards: tuple[str, ...] = ()
    refusing: Mapping[int, str] = field(default_factory=dict)

    @property
    def told(self) -> Told:
        """What of it tells how the cluster stands."""
        copies = {slot: copy.incarnation for slot, copy in self.copies.items()}
        return Told(self.serving, self.refusing, copies, self.map_epochs)


Answers = Mapping[str, ShardAnswer | None]
"""Shard -> what it says; None if it does not answer, or another one does in its place."""


async def ask_shards(
    state: ClusterState, shards: Iterable[str] | None = None, timeout_s: float = STATUS_TIMEOUT_S
) -> Answers:
    """Ask these members, or all of them, at the same time."""
    asked = sorted(state.members if shards is None else set(shards) & set(state.members))
    answers = await asyncio.gather(*(_ask(state, shard, timeout_s) for shard in asked))
    return dict(zip(asked, answers, strict=True))


async def _ask(state: ClusterState, shard: str, timeout_s: float) -> ShardAnswer | None:
    async with open_channel(state.members[shard].peer_address) as channel:
        stub: node_pb2_grpc.NodeAsyncStub = node_pb2_grpc.NodeStub(channel)
        try:
            call = stub.Status(node_pb2.StatusRequest(), timeout=timeout_s, metadata=peer_metadata(state, shard))
            status = await tasks.answer_of(call)
        except grpc.aio.AioRpcError:
            return None
    return answer_of(status)


def answer_of(status: node_pb2.StatusResponse) -> ShardAnswer:
    """Return what a shard says of itself. Pure.

    A copy has a name once it is complete. One that has a name and is joining is an older one, until it has caught up.
    """
    return ShardAnswer(
        serving=dict(zip(status.slots, status.epochs, strict=False)),
        copies={
            copy.slot: HeldCopy(
                copy.incarnation.hex(),
                name_from_wire(copy.head),
                complete=bool(copy.incarnation),
                clone_bytes=copy.clone_bytes,
                epoch=copy.epoch,
            )
            for copy in status.copies
        },
        disk_full=status.disk_full,
        takes_no_events=status.takes_no_events,
        stopping=status.stopping,
        redundancy=Redundancy(
            single_copy_s=status.redundancy.single_copy_slot_seconds,
            copies_missing=status.redundancy.copies_missing,
            clones=status.redundancy.clones,
            catch_ups=status.redundancy.catch_ups,
            terms_refused=status.redundancy.terms_refused,
        ),
        map_epochs=tuple(status.map_epochs),
        map_shards=tuple(status.map_shards),
        refusing=dict(zip(status.refusing_slots, status.refusing_reasons, strict=False)),
    )


async def found_copy(state: ClusterState, shard: str, slot: int, incarnation: str) -> None:
    """Let a shard begin an empty copy under a fresh name; safe to repeat.

    Raises:
        NotFounded: It did not, or gave no answer.
    """
    async with open_channel(state.members[shard].peer_address) as channel:
        stub: node_pb2_grpc.NodeAsyncStub = node_pb2_grpc.NodeStub(channel)
        request = node_pb2.FoundCopyRequest(slot=slot, incarnation=bytes.fromhex(incarnation))
        metadata = peer_metadata(state, shard)
        try:
            await stub.FoundCopy(request, timeout=_FOUND_TIMEOUT_S, metadata=metadata)
        except grpc.aio.AioRpcError as exc:
            raise NotFounded(shard, slot, exc.details() or exc.code().name) from exc
