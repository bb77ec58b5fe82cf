"""The process that holds the controller's key: it looks, plans and writes, one thing at a time."""

from typing import TYPE_CHECKING, Final

from tally.cluster.slot_map import SlotMap
from tests.simulation import planner
from tests.simulation.etcd import Guards, Seen
from tests.simulation.planner import Health, Request, View

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.process import Process

ROUND_S: Final = 0.4
SILENT_S: Final = 1.0
STUCK_S: Final = 3.0


def guards_of(controller: int, seen: Seen) -> Guards:
    """Return what must still be so when the map is written."""
    return Guards(controller, seen.map_revision)


class Controller:
    """One shard while it takes itself for the controller; it may be deposed and not know yet."""

    def __init__(self, cluster: "Cluster", process: "Process", revision: int) -> None:
        self._cluster = cluster
        self._process = process
        self.name: Final = process.name
        self.revision: Final = revision
        self._since = cluster.world.now
        self._busy = False
        self._again = False
        self._requests: list[Request] = []
        self._health: dict[str, tuple[float, Health]] = {}
        self._served = [self._since] * cluster.slots  # When each slot was last seen to be served, or changed.

    def begin(self) -> None:
        """Start the rounds."""
        self._round()

    def _round(self) -> None:
        if self._process.controller is not self:
            return
        self._cluster.world.after(ROUND_S, self._process.enter, self._round)
        for name, machine in self._cluster.machines.items():
            self._cluster.network.send(self.name, name, machine.health, self, self._cluster.world.now)
        self._work()

    def healthy(self, shard: str, asked: float, health: Health) -> None:
        """Take the answer to a health call; it is as old as the call."""
        self._process.enter(self._healthy, shard, asked, health)

    def _healthy(self, shard: str, asked: float, health: Health) -> None:
        now = self._cluster.world.now
        if shard in self._health and self._health[shard][0] >= asked:
            return
        self._health[shard] = (asked, health)
        for slot, copy in enumerate(health):
            if copy.serves:
                self._served[slot] = now

    def request(self, request: Request) -> None:
        """Take what a primary asks for."""
        self._requests.append(request)
        self._work()

    def _work(self) -> None:
        if self._busy:
            self._again = True
            return
        self._busy, self._again = True, False
        etcd = self._cluster.etcd
        etcd.request(self.name, etcd.read, (), self._seen)

    def _seen(self, seen: Seen | None) -> None:
        self._process.enter(self._decide, seen)

    def _decide(self, seen: Seen | None) -> None:
        requests, self._requests = self._requests, []
        if seen is None:
            self._done()
            return
        view = self._view(seen, requests)
        plan = planner.plan(view, self._cluster.world.random) if view is not None else None
        if plan is None:
            self._done()
            return
        for slot, (before, after) in enumerate(zip(seen.map.rows, plan.map.rows, strict=True)):
            self._cluster.set_backs.removals.update(
                (slot, before.epoch, shard) for shard in before.in_sync.keys() - after.in_sync
            )
        etcd = self._cluster.etcd
        guards = guards_of(self.revision, seen)
        etcd.request(self.name, etcd.write_map, (plan.map, guards), lambda result: self._written(plan, result))

    def _view(self, seen: Seen, requests: list[Request]) -> View | None:
        cluster, now = self._cluster, self._cluster.world.now
        if now - self._since < SILENT_S:
            return None  # It has not asked everybody yet.
        health = {shard: health for shard, (at, health) in self._health.items() if now - at < SILENT_S}
        stuck = {slot for slot, at in enumerate(self._served) if now - at > STUCK_S}
        return View(seen.map, seen.alive, health, requests, stuck, cluster.moves, cluster.copies, cluster.min_copies)

    def _written(self, plan: planner.Plan, revision: int | None) -> None:
        self._process.enter(self._tell, plan, revision)

    def _tell(self, plan: planner.Plan, revision: int | None) -> None:
        if revision:
            for change in plan.changes:
                self._cluster.world.totals[change] += 1
            self._push(plan.map, revision)
        self._done()

    def _push(self, new: SlotMap, revision: int) -> None:
        now = self._cluster.world.now
        for slot in self._cluster.moves.copy():
            if slot in new.joining:
                self._cluster.moves.discard(slot)
        for slot, served in enumerate(self._served):
            if now - served > STUCK_S:
                self._served[slot] = now  # A new primary gets as much time.
        for name, machine in self._cluster.machines.items():
            self._cluster.network.send(self.name, name, machine.push, new, revision)

    def _done(self) -> None:
        self._busy = False
        if self._again:
            self._work()
