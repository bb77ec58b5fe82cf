"""Asks the copies on a shard for their heads, as a primary does that begins a term (rule 5 of PROTOCOL), from outside.

A copy that answers OK has stored the epoch of the call, and with that ended its own term of an older one: no op of an
older epoch is acknowledged any more, so what it tells of its head stays so.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import grpc.aio

from protos.tally.internal.v1 import node_pb2, node_pb2_grpc
from tally.client.channel import open_channel, peer_metadata
from tally.cluster.controller.node_words import name_from_wire
from tally.cluster.state import ClusterState
from tally.command.recovery.decision import CopyHead, Told
from tally.errors import Unavailable

SENDER: Final = "recover"
HEADS_AT_ONCE: Final = 32  # Each comes with its op.
ANSWER_S: Final = 20.0  # Of so many; each is flushed before, and a slow disk is no dead one.


async def ask_heads(state: ClusterState, shard: str, fences: Mapping[int, int]) -> dict[int, Told]:
    """Ask for the heads of the copies of some slots.

    Args:
        state: Where the shards are, and what is known of the cluster.
        shard: Whom.
        fences: Slot -> the epoch below which its copy is to take nothing any more.

    Raises:
        Unavailable: Not all were answered; those that were may have stored their epochs. Safe to repeat.
    """
    told: dict[int, Told] = {}
    async with open_channel(state.members[shard].peer_address) as channel:
        stub: node_pb2_grpc.NodeAsyncStub = node_pb2_grpc.NodeStub(channel)
        stream = stub.Replicate(metadata=peer_metadata(state, shard, SENDER))
        try:
            for slots in _portions(sorted(fences)):
                async with asyncio.timeout(ANSWER_S):
                    told |= await _ask_some(stream, slots, fences)
        except grpc.aio.AioRpcError as exc:
            raise Unavailable(f"{shard} did not tell its heads: {exc.details() or exc.code().name}") from exc
        except TimeoutError as exc:
            raise Unavailable(f"{shard} did not tell its heads within {ANSWER_S:.0f} s") from exc
        finally:
            stream.cancel()
    return told


def _portions(slots: Sequence[int]) -> Iterator[Sequence[int]]:
    return (slots[begin : begin + HEADS_AT_ONCE] for begin in range(0, len(slots), HEADS_AT_ONCE))


async def _ask_some(stream: Any, slots: Sequence[int], fences: Mapping[int, int]) -> dict[int, Told]:
    calls = [node_pb2.HeadsCall(call=slot + 1, slot=slot, epoch=fences[slot]) for slot in slots]
    await stream.write(node_pb2.ReplicateRequest(heads=calls))
    told: dict[int, Told] = {}
    while len(told) < len(slots):
        response = await stream.read()
        if response is grpc.aio.EOF:
            raise Unavailable("a shard ended its stream of heads")
        told |= {answer.slot: told_by(answer) for answer in response.answers}
    return told


def told_by(answer: node_pb2.CopyAnswer) -> Told:
    """Return what a copy told. Pure."""
    if answer.verdict != node_pb2.VERDICT_OK:
        return Told(answer.epoch, None)
    return Told(answer.epoch, CopyHead(answer.incarnation.hex(), name_from_wire(answer.head.name)))
