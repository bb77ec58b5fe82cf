"""What the controller knows besides etcd: the answers to its own health calls, and since when something is amiss.

| word | meaning |
|---|---|
| dead | no alive key *and* no answer to the health call: a lost lease by itself moves nothing |
| away | dead for ``REPLACED_AFTER_S``: its copies go to others; until then its place is kept |
| fit | it answers, does not stop, and has the very copy that the row names, complete |
| stuck | it answers, and for ``NOT_SERVING_S`` did not serve the slot that it is primary of |
| unreachable | its key is alive, but for ``SILENT_S`` it gave no answer, while more than half of the others did |
| shunned | stuck or unreachable, it lost that slot within the last ``SHUNNED_S``: it does not get it back so soon |
| copyless | it answers, and for ``COPYLESS_S`` did not have the copy that the row names |

While fewer than half of the active members live, nobody is promoted or taken out for ``HOLD_S``: it is more likely that
the controller is cut off. After that it is believed.

Pure: the memory goes in, and comes out again with the next plan. A new controller begins with an empty one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tally.cluster.members import Wanted
from tally.cluster.op_name import NOTHING, OpName
from tally.cluster.planning.placement import Target
from tally.cluster.planning.standing import Told
from tally.cluster.slot_map import SlotRow
from tally.cluster.state import ClusterState

HOLD_S: Final = 60.0
REPLACED_AFTER_S: Final = 600.0
COPYLESS_S: Final = 3.0  # An answer can be older than the row: by two seconds, see ``health_calls.py``.
NOT_SERVING_S: Final = 10.0
SILENT_S: Final = 20.0  # A shard that others reach, but the controller does not, serves on: this is not urgent.
SHUNNED_S: Final = 600.0


class CopyHealth(NamedTuple):
    """One copy, as its shard tells it.

    Attributes:
        incarnation: Its name; "" without a copy.
        complete: It has all that its head says.
        epoch: The highest that it has stored.
        serving: It is primary, and its term has come so far that it serves.
        head: What it applied last; not flushed yet, perhaps.
    """

    incarnation: str
    complete: bool
    epoch: int
    serving: bool = False
    head: OpName = NOTHING


@dataclass(frozen=True, slots=True)
class ShardHealth:
    """One shard's answer to the controller.

    Attributes:
        copies: Slot -> its copy.
        disk_full: It takes no new copies.
        stopping: It is about to end: others should be primary of its slots.
        told: What monitors are told; nothing is decided by it.
    """

    copies: Mapping[int, CopyHealth] = field(default_factory=dict)
    disk_full: bool = False
    stopping: bool = False
    told: Told = field(default_factory=Told, compare=False)


class TargetFor(NamedTuple):
    """What a target was computed for; another target is sought only when this changes."""

    shards: tuple[str, ...]
    copies: int
    spreads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """What one plan hands on to the next.

    Attributes:
        few_since: Since when fewer than half of the active members live; None if they are enough.
        dead_since: Shard -> since when it is dead.
        copyless_since: (Slot, shard, incarnation) -> since when the shard answers without having that copy.
        not_serving_since: (Slot, epoch) -> since when its primary answers without serving.
        silent_since: Shard -> since when its key is alive, and it is silent while most others answer.
        shunned_since: (Slot, shard) -> when that primary was replaced because it was stuck or unreachable.
        target_for, target: Where the slots are to be, and for whom that was computed.
        epochs: Slot -> the highest epoch that a copy of it told to have stored.
    """

    few_since: float | None = None
    dead_since: Mapping[str, float] = field(default_factory=dict)
    copyless_since: Mapping[tuple[int, str, str], float] = field(default_factory=dict)
    not_serving_since: Mapping[tuple[int, int], float] = field(default_factory=dict)
    silent_since: Mapping[str, float] = field(default_factory=dict)
    shunned_since: Mapping[tuple[int, str], float] = field(default_factory=dict)
    target_for: TargetFor | None = None
    target: Target | None = None
    epochs: Mapping[int, int] = field(default_factory=dict)


class Sight:
    """State, health and memory at one time; what follows from them."""

    def __init__(
        self, state: ClusterState, health: Mapping[str, ShardHealth | None], now: float, memory: Memory
    ) -> None:
        """Look; ``health`` has None, or nothing, for a shard that did not answer."""
        self.state = state
        self.now = now
        self._health = health
        self.active = [name for name, member in state.members.items() if member.wanted is Wanted.ACTIVE]
        known = set(state.members)
        if state.map is not None:
            known |= {shard for row in state.map.rows for shard in row.in_sync}
        self.dead = {name for name in known if name not in state.alive and health.get(name) is None}
        self.dead_since = {name: memory.dead_since.get(name, now) for name in sorted(self.dead)}
        few = 2 * len(set(self.active) - self.dead) < len(self.active)
        self.few_since = (now if memory.few_since is None else memory.few_since) if few else None
        self.held = self.few_since is not None and now - self.few_since < HOLD_S
        self.copies = state.config.copies_among(len(self.active))
        self.min_copies = state.config.min_copies_among(len(self.active))
        self.shunned_since = {key: since for key, since in memory.shunned_since.items() if now - since < SHUNNED_S}
        self.copyless_since, self.not_serving_since = self._amiss(memory)
        self.silent_since = {shard: memory.silent_since.get(shard, now) for shard in self._silent()}
        self.unreachable = {shard for shard, since in self.silent_since.items() if now - since >= SILENT_S}

    def _silent(self) -> list[str]:
        """Return who is alive and silent; nobody unless most others answer: else the controller may be cut off."""
        there = sorted(self.state.members.keys() & self.state.alive.keys())
        silent = [shard for shard in there if not self.answers(shard)]
        return silent if 2 * (len(there) - len(silent)) > len(there) - 1 else []

    def _amiss(self, memory: Memory) -> tuple[dict[tuple[int, str, str], float], dict[tuple[int, int], float]]:
        copyless: dict[tuple[int, str, str], float] = {}
        not_serving: dict[tuple[int, int], float] = {}
        for slot, row in enumerate(self.state.map.rows if self.state.map else ()):
            for shard, incarnation in row.in_sync.items():
                if self.answers(shard) and not self.has_copy(slot, row, shard):
                    key = (slot, shard, incarnation)
                    copyless[key] = memory.copyless_since.get(key, self.now)
            if self.answers(row.primary) and not self.serves(slot, row):
                not_serving[slot, row.epoch] = memory.not_serving_since.get((slot, row.epoch), self.now)
        return copyless, not_serving

    def placeable(self) -> list[str]:
        """Return who is to share the slots: the active members, without those that are away for long."""
        there = [name for name in self.active if self.now - self.dead_since.get(name, self.now) < REPLACED_AFTER_S]
        return sorted(there or self.active)

    def answers(self, shard: str) -> bool:
        """Whether it answered the health call."""
        return self._health.get(shard) is not None

    def stopping(self, shard: str) -> bool:
        """Whether it said that it is about to end."""
        health = self._health.get(shard)
        return health is not None and health.stopping

    def disk_full(self, shard: str) -> bool:
        """Whether it said that its disk is too full for new copies."""
        health = self._health.get(shard)
        return health is not None and health.disk_full

    def has_room(self, shard: str) -> bool:
        """Whether it takes new copies."""
        return self.answers(shard) and not self.stopping(shard) and not self.disk_full(shard)

    def has_copy(self, slot: int, row: SlotRow, shard: str) -> bool:
        """Whether it has the very copy that the row names, complete."""
        copy = self._copy(slot, shard)
        return copy is not None and copy.complete and copy.incarnation == row.in_sync.get(shard)

    def has_old_copy(self, slot: int, shard: str) -> bool:
        """Whether it has a complete copy of any name, so that it may only have to catch up."""
        copy = self._copy(slot, shard)
        return copy is not None and copy.complete

    def head(self, slot: int, shard: str) -> OpName:
        """Return what its copy of a slot applied last, as it said; ``NOTHING`` without a copy or an answer."""
        copy = self._copy(slot, shard)
        return NOTHING if copy is None else copy.head

    def fit(self, slot: int, row: SlotRow, shard: str) -> bool:
        """Whether it could be primary at once."""
        return not self.stopping(shard) and self.has_copy(slot, row, shard)

    def serves(self, slot: int, row: SlotRow) -> bool:
        """Whether the primary serves, in the epoch of the row."""
        copy = self._copy(slot, row.primary)
        return copy is not None and copy.serving and copy.epoch == row.epoch

    def copyless(self, slot: int, row: SlotRow, shard: str) -> bool:
        """Whether it answers, and for a while did not have the copy that the row names."""
        since = self.copyless_since.get((slot, shard, row.in_sync[shard]))
        return since is not None and self.now - since >= COPYLESS_S

    def stuck(self, slot: int, row: SlotRow) -> bool:
        """Whether the primary answers, and for long did not serve."""
        since = self.not_serving_since.get((slot, row.epoch))
        return since is not None and self.now - since >= NOT_SERVING_S

    def out_of_service(self, slot: int, row: SlotRow) -> bool:
        """Whether nobody can be cloned from the primary for now; one that only begins another term is not that."""
        return row.primary in self.dead | self.unreachable or self.stuck(slot, row)

    def shunned(self, slot: int, shard: str) -> bool:
        """Whether that slot was taken from it not long ago."""
        return (slot, shard) in self.shunned_since

    def _copy(self, slot: int, shard: str) -> CopyHealth | None:
        health = self._health.get(shard)
        return None if health is None else health.copies.get(slot)
