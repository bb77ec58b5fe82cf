"""A cluster without processes: shards that answer health calls, clone and switch at once, or die."""

from itertools import count

from tally.cluster.config import ClusterConfig
from tally.cluster.members import Wanted
from tally.cluster.op_name import NOTHING, OpName
from tally.cluster.planning.health import NOT_SERVING_S, CopyHealth, Memory, ShardHealth
from tally.cluster.planning.placement import Target, first_map, target_of
from tally.cluster.planning.plan import Plan, next_step
from tally.cluster.rows import Change, Request, execute
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.cluster.state import ClusterState
from tests.support.cluster_values import PROCESS, member


class World:
    """What etcd holds, what stands on the shards' disks, and a controller; one ``round`` is one second."""

    def __init__(self, config: ClusterConfig, shards: int) -> None:
        self.config = config
        self.members = {f"s{number}": member(number) for number in range(shards)}
        self.alive = set(self.members)
        self.answering = set(self.members)
        self.stopping: set[str] = set()
        self.full: set[str] = set()
        self.not_serving: set[str] = set()
        self.slow: set[int] = set()  # Slots of which no clone comes to its end.
        self.disks: dict[str, dict[int, str]] = {}  # Shard -> slot -> incarnation of its complete copy.
        self.heads: dict[tuple[int, str], OpName] = {}  # (Slot, shard) -> what its copy applied last.
        self.memory: Memory | None = None
        self.forgets_every = 0  # After so many rounds another controller is elected; 0: never.
        self.now = 1000.0
        self.clones = self.catch_ups = 0
        self._names = count()
        copies, floor = config.copies_among(shards), config.min_copies_among(shards)
        self.map = first_map(config.shape.slots, self.members, copies, floor)
        for slot, row in enumerate(self.map.rows):
            for shard, incarnation in row.in_sync.items():
                self.disks.setdefault(shard, {})[slot] = incarnation

    # What happens to it.

    def join(self, shard: str) -> None:
        self.members[shard] = member(int(shard[1:]))
        self.start(shard)

    def start(self, shard: str) -> None:
        self.alive.add(shard)
        self.answering.add(shard)

    def kill(self, shard: str) -> None:
        self.alive.discard(shard)
        self.answering.discard(shard)

    def drain(self, shard: str) -> None:
        self.members[shard] = member(int(shard[1:]), wanted=Wanted.DRAINING)

    def lose_disk(self, shard: str) -> None:
        self.disks[shard] = {}

    # What is known.

    @property
    def active(self) -> list[str]:
        return sorted(shard for shard, one in self.members.items() if one.wanted is Wanted.ACTIVE)

    def state(self) -> ClusterState:
        return ClusterState(self.config, self.members, dict.fromkeys(self.alive, "00"), map=self.map, map_revision=1)

    def health(self) -> dict[str, ShardHealth | None]:
        return {shard: self._health_of(shard) if shard in self.answering else None for shard in self.members}

    def _health_of(self, shard: str) -> ShardHealth:
        copies = {
            slot: CopyHealth(
                incarnation,
                complete=True,
                epoch=row.epoch,
                serving=self.serves(slot, shard),
                head=self.heads.get((slot, shard), NOTHING),
            )
            for slot, incarnation in self.disks.get(shard, {}).items()
            for row in [self.map.rows[slot]]
        }
        return ShardHealth(copies, disk_full=shard in self.full, stopping=shard in self.stopping)

    def has_copy(self, slot: int, shard: str) -> bool:
        return self.disks.get(shard, {}).get(slot) == self.map.rows[slot].in_sync.get(shard, "none")

    def serves(self, slot: int, shard: str) -> bool:
        row = self.map.rows[slot]
        all_there = all(one in self.answering and self.has_copy(slot, one) for one in row.in_sync)
        return row.primary == shard and all_there and shard not in self.not_serving

    def target(self) -> Target:
        spreads = [spread for _, spread in self.config.shape.spreads]
        return target_of(self.map, self.active, self.config.copies, spreads)

    # What the controller and the shards do.

    def plan(self) -> Plan:
        """Plan, and take the map over."""
        before = self.map
        if self.forgets_every and self.now % self.forgets_every == 0:
            self.memory = None
        plan = next_step(self.state(), self.health(), self.now, self.memory)
        self.memory = plan.memory
        if plan.map is not None:
            check_planned(self, before, plan)
            self.map = plan.map
        return plan

    def round(self) -> Plan:
        """Plan once; then all that was wished for and can be done is done."""
        plan = self.plan()
        for slot, shard in plan.switches.items():
            row = self.map.rows[slot]
            if self.serves(slot, row.primary) and shard in self.answering:
                self._ask(Request(Change.PROMOTE, slot, row.epoch, shard, row.in_sync[shard], PROCESS))
        if not plan.held:
            self._take_out_the_silent()
        for slot, shards in list(self.map.joining.items()):
            for shard in shards:
                self._join(slot, shard)
        self.now += 1
        return plan

    def _take_out_the_silent(self) -> None:
        for slot, row in enumerate(self.map.rows):
            if row.primary in self.answering and self.has_copy(slot, row.primary):
                for shard in sorted(row.in_sync.keys() - self.answering):
                    self._ask(
                        Request(Change.REMOVE, slot, self.map.rows[slot].epoch, shard, row.in_sync[shard], PROCESS)
                    )

    def _join(self, slot: int, shard: str) -> None:
        row = self.map.rows[slot]
        if shard not in self.answering or shard in self.full or not self.serves(slot, row.primary):
            return
        if slot in self.slow and slot not in self.disks.get(shard, {}):
            return
        if slot in self.disks.get(shard, {}):
            self.catch_ups += 1
        else:
            self.clones += 1
        incarnation = f"{next(self._names):032x}"
        self.disks.setdefault(shard, {})[slot] = incarnation
        self._ask(Request(Change.ADD, slot, row.epoch, shard, incarnation, PROCESS))

    def _ask(self, request: Request) -> None:
        result = execute(self.map, request, min_copies=self.config.min_copies_among(len(self.active)))
        assert isinstance(result, SlotMap), result
        self.map = result

    def settle(self) -> int:
        """Go on until nothing changes for as long as anything is waited for; return how many rounds it took to."""
        changed = 0
        for number in range(2000):
            before = self.map
            plan = self.round()
            if plan.map is not None or plan.switches or self.map != before:
                changed = number + 1
            if number - changed > NOT_SERVING_S:
                return changed
        raise AssertionError("it does not come to rest")


def check_planned(world: World, before: SlotMap, plan: Plan) -> None:
    """Check what must hold of every map that the controller itself writes."""
    assert plan.map is not None
    for slot, (old, new) in enumerate(zip(before.rows, plan.map.rows, strict=True)):
        changes = int(old.primary != new.primary) + len(old.in_sync.keys() - new.in_sync.keys())
        changes += old.min_copies != new.min_copies
        assert new.min_copies >= min(old.min_copies, world.config.min_copies_among(len(world.active)))
        assert new.epoch == old.epoch + changes
        assert new.in_sync.items() <= old.in_sync.items()  # It adds nobody, and renames nobody.
        if new.primary != old.primary:
            assert new.primary in world.answering
            assert world.has_copy(slot, new.primary)
        _check_removed(world, slot, old, new, plan)
    for slot, shards in plan.map.joining.items():
        assert shards
        assert not set(shards) & plan.map.rows[slot].in_sync.keys()


def _check_removed(world: World, slot: int, old: SlotRow, new: SlotRow, plan: Plan) -> None:
    target = plan.memory.target
    for shard in old.in_sync.keys() - new.in_sync.keys():
        assert not plan.held
        gone = shard not in world.alive | world.answering or not world.has_copy(slot, shard)
        if not gone:
            assert target is not None
            assert shard not in target.copies[slot]
            assert target.copies[slot] <= new.in_sync.keys()
