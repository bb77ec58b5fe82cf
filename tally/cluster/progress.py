"""How far the cluster is from where it is to be, for status and for ``tally drain``. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tally.cluster.members import Wanted
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
    """The cluster.

    Attributes:
        shards: By name; also such as are no members any more, but keep something.
        copies_missing: Over all slots, how many copies they have less than wanted.
        moves: Copies that are to join.
        not_writable: Slots with fewer copies in sync than they take writes with.
        without_live_copy: Slots of whose set no process is registered: 503 until one is back.
    """

    shards: Mapping[str, ShardProgress]
    copies_missing: int
    moves: int
    not_writable: tuple[int, ...]
    without_live_copy: tuple[int, ...]

    @property
    def at_rest(self) -> bool:
        """Whether nothing is missing or under way."""
        return not (self.copies_missing or self.moves or self.not_writable)


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
        copies_missing=sum(max(0, wanted - len(row.in_sync)) for row in rows),
        moves=joining.total(),
        not_writable=tuple(slot for slot, row in enumerate(rows) if len(row.in_sync) < row.min_copies),
        without_live_copy=tuple(
            slot for slot, row in enumerate(rows) if not any(shard in state.alive for shard in row.in_sync)
        ),
    )
