"""How far the cluster is from where it is to be, for status and for ``tally drain``. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from tally.cluster.members import Wanted
from tally.cluster.planning.placement import Target, target_of
from tally.cluster.state import ClusterState


@dataclass(frozen=True, slots=True)
class ShardProgress:
    """One shard.

    Attributes:
        primaries, copies: Slots that it is primary of, and that it keeps.
        joining: Slots that it is getting a copy of.
        share: Copies that it would keep if all had the same; 0 while it drains.
        alive: Its process is registered.
        drained: It drains and keeps nothing: it may be switched off and removed.
    """

    primaries: int
    copies: int
    joining: int
    share: float
    alive: bool
    drained: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """What is where, and under way, by the map alone; how the cluster stands is in ``standing.py``.

    Attributes:
        shards: By name; also such as are no members any more, but keep something.
        moves: Copies that are to join.
        without_live_copy: Slots of whose set no process is registered: 503 until one is back.
    """

    shards: Mapping[str, ShardProgress]
    moves: int
    without_live_copy: tuple[int, ...]


def drained(state: ClusterState, shard: str) -> bool:
    """Whether a shard keeps nothing and is to get nothing, so that nobody misses it."""
    if state.map is None:
        return True
    kept = any(shard in row.in_sync for row in state.map.rows)
    return not kept and not any(shard in shards for shards in state.map.joining.values())


def progress(state: ClusterState) -> Progress:
    """Return how far the cluster is; all zeros without a map."""
    rows = state.map.rows if state.map else ()
    joining = Counter(shard for shards in (state.map.joining.values() if state.map else ()) for shard in shards)
    primaries = Counter(row.primary for row in rows)
    copies = Counter(shard for row in rows for shard in row.in_sync)
    active = [shard for shard, member in state.members.items() if member.wanted is Wanted.ACTIVE]
    wanted = state.config.copies_among(len(active))
    return Progress(
        shards={
            shard: ShardProgress(
                primaries[shard],
                copies[shard],
                joining[shard],
                share=len(rows) * wanted / len(active) if shard in active else 0.0,
                alive=shard in state.alive,
                drained=shard not in active and drained(state, shard),
            )
            for shard in sorted({*state.members, *copies, *joining})
        },
        moves=joining.total(),
        without_live_copy=tuple(
            slot for slot, row in enumerate(rows) if not any(shard in state.alive for shard in row.in_sync)
        ),
    )


class Placed(NamedTuple):
    """How many copies are where they are to be, of all that are to be."""

    at_place: int
    to_be: int


def placed(state: ClusterState, gone: Set[tuple[int, str]] = frozenset()) -> Placed | None:
    """Return how many copies are at their place; None where that is not known.

    The controller remembers the places. They can be computed again as long as all active members are alive: of those
    that are away only the controller knows since when, and so whether it still counts on them.

    Args:
        state: What is known of the cluster.
        gone: (slot, shard) of copies that the map names, but that are not there.

    Cost: that of ``target_of``.
    """
    active = [shard for shard, member in state.members.items() if member.wanted is Wanted.ACTIVE]
    if state.map is None or not active or not set(active) <= set(state.alive):
        return None
    copies = _target(state, active).copies
    at_place = sum(
        (slot, shard) not in gone
        for slot, (wanted, row) in enumerate(zip(copies, state.map.rows, strict=True))
        for shard in wanted & row.in_sync.keys()
    )
    return Placed(at_place, sum(map(len, copies)))


@dataclass(frozen=True, slots=True)
class Drain:
    """What comes of it when a shard is drained.

    Attributes:
        copies, primaries: Slots that it keeps, and of how many of them it is primary.
        gains: Shard -> how many copies it gets.
        copies_each: How many copies each slot has then.
        wanted: How many it is to have by the config.
        floor: With how many in sync a slot takes writes then.
        floor_wanted: With how many by the config.
    """

    copies: int
    primaries: int
    gains: Mapping[str, int]
    copies_each: int
    wanted: int
    floor: int
    floor_wanted: int


def drain_of(state: ClusterState, shard: str) -> Drain:
    """Return what comes of draining ``shard``, with at least one other active member."""
    rest = [name for name, member in state.members.items() if member.wanted is Wanted.ACTIVE and name != shard]
    assert rest
    rows = state.map.rows if state.map else ()
    copies = _target(state, rest).copies if state.map else ()
    gains = Counter(name for row, wanted in zip(rows, copies, strict=True) for name in wanted - row.in_sync.keys())
    return Drain(
        copies=sum(shard in row.in_sync for row in rows),
        primaries=sum(shard == row.primary for row in rows),
        gains=dict(sorted(gains.items())),
        copies_each=state.config.copies_among(len(rest)),
        wanted=state.config.copies,
        floor=state.config.min_copies_among(len(rest)),
        floor_wanted=state.config.min_copies,
    )


def _target(state: ClusterState, shards: Sequence[str]) -> Target:
    assert state.map is not None
    spreads = tuple(spread for _, spread in state.config.shape.spreads)
    return target_of(state.map, sorted(shards), state.config.copies_among(len(shards)), spreads)
