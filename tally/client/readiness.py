"""Which slots have no serving primary, and why: asked of the shards themselves."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import grpc.aio

from protos.tally.internal.v1 import node_pb2, node_pb2_grpc
from tally.client.channel import peer_metadata
from tally.cluster.controller.node_words import told_of
from tally.cluster.planning.standing import Standing, Told, standing
from tally.cluster.slot_map import SlotMap
from tally.cluster.state import ClusterState
from tally.tasks import is_cancelled

# Well below the second that a load balancer gives a probe: one frozen shard must not make every gateway look dead.
STATUS_TIMEOUT_S: Final = 0.5
# A shard that restarts breaks a stream once or twice.
BREAKS_IN_A_ROW: Final = 5


class Look(NamedTuple):
    """What one look at the shards found.

    Attributes:
        not_serving: One line a reason; empty when every slot has a serving primary.
        refusing: One line for each shard and reason for which something is refused in slots that are served.
        standing: How the whole cluster stands.
    """

    not_serving: list[str]
    refusing: list[str]
    standing: Standing


async def look(state: ClusterState, stubs: "Mapping[str, node_pb2_grpc.NodeAsyncStub]") -> Look:
    """Ask the shards what they serve.

    Args:
        state: Who should serve what.
        stubs: How each member is reached.
    """
    if state.map is None:
        found = f"{len(state.alive)} of {state.config.first_shards} shards are there"
        return Look([f"there is no map yet: {found}"], [], standing(state, {}))
    primaries = state.map.slots_per_primary()
    shards = sorted({*primaries, *state.map.shards()})
    answers = await asyncio.gather(*(serving_slots(state, shard, stubs.get(shard)) for shard in shards))
    told = dict(zip(shards, answers, strict=True))
    serving = {shard: one.serving for shard in primaries if (one := told[shard]) is not None}
    silent: dict[str, None] = {shard: None for shard in primaries if told[shard] is None}
    return Look(reasons(state.map, {**serving, **silent}), refusals(told), standing(state, told))


async def serving_slots(
    state: ClusterState, shard: str, stub: "node_pb2_grpc.NodeAsyncStub | None", timeout_s: float = STATUS_TIMEOUT_S
) -> Told | None:
    """Return what a shard says of itself; None if it does not answer, or another one does in its place."""
    if stub is None:
        return None
    try:
        status = await stub.Status(node_pb2.StatusRequest(), timeout=timeout_s, metadata=peer_metadata(state, shard))
    except (grpc.aio.AioRpcError, grpc.aio.UsageError):
        return None
    except asyncio.CancelledError:
        if is_cancelled():
            raise
        return None  # The channel was closed, because the shard has another address now.
    return told_of(status)


def reasons(held: SlotMap, serving: Mapping[str, Mapping[int, int] | None]) -> list[str]:
    """Compare what should be served with what is; one line for each shard that falls short."""
    found: list[str] = []
    for shard, slots in sorted(serving.items()):
        wanted = [slot for slot, row in enumerate(held.rows) if row.primary == shard]
        if slots is None:
            found.append(f"shard {shard} does not answer: {_count(wanted)}")
            continue
        missing = [slot for slot in wanted if slots.get(slot, 0) < held.rows[slot].epoch]
        if missing:
            found.append(f"shard {shard} does not serve {_count(missing)} yet")
    return found


def refusals(told: Mapping[str, Told | None]) -> list[str]:
    """Return one line for each shard and reason for which it refuses something."""
    found: list[str] = []
    for shard, one in sorted(told.items()):
        by_reason: dict[str, list[int]] = {}
        for slot, reason in one.refusing.items() if one is not None else ():
            by_reason.setdefault(reason, []).append(slot)
        for reason, slots in sorted(by_reason.items()):
            found.append(f"shard {shard} refuses something in {_count(slots)}: {reason}")
    return found


def broken_streams(failures: Mapping[str, int]) -> list[str]:
    """Return one line for each shard that may well serve, but not this process.

    Args:
        failures: Shard -> how often the stream to it broke in a row.
    """
    return [
        f"the stream to shard {shard} broke {times} times in a row"
        for shard, times in sorted(failures.items())
        if times >= BREAKS_IN_A_ROW
    ]


def _count(slots: Iterable[int]) -> str:
    numbers = list(slots)
    return f"slot {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} slots"
