"""The process that holds the controller's key: it looks, plans and writes, one thing at a time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tally.cluster.rows import Change, Request
from tally.cluster.slot_map import SlotMap
from tests.simulation import planner
from tests.simulation.etcd import Guards, Seen
from tests.simulation.planner import Health, View

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.process import Process

ROUND_S: Final = 0.4
SILENT_S: Final = 1.0
STUCK_S: Final = 5.0
UNREACHABLE_S: Final = 4.0
LOOK_S: Final = 1.0  # How long a doubted request waits for the look at the member that it is about.


def guards_of(controller: int, seen: Seen, requests: Sequence[Request]) -> Guards:
    """Return what must still be so when the map is written; requests may not be of a former process (rule 11)."""
    asking = {seen.map.rows[request.slot].primary: request.process for request in requests}
    return Guards(controller, seen.map_revision, asking)


def of_living_processes(seen: Seen, requests: Sequence[Request]) -> list[Request]:
    """Return the requests of the processes that are primaries now; without an alive key nobody removes (rule 11)."""
    return [request for request in requests if _is_registered(seen, request)]


def _is_registered(seen: Seen, request: Request) -> bool:
    process = seen.alive.get(seen.map.rows[request.slot].primary)
    return process == request.process or (process is None and request.change is not Change.REMOVE)


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
        self._doubted: list[tuple[float, Request]] = []  # Since when they wait for a look at the member.
        self._health: dict[str, tuple[float, Health]] = {}
        self._served = [self._since] * cluster.slots  # When each slot was last seen to be served, or changed.

    def begin(self) -> None:
        """Start the rounds."""
        self._round()

    def _round(self) -> None:
        if self._process.controller is not self:
            return
        self._cluster.world.after(ROUND_S, self._process.enter, self._round)
        for name in self._cluster.machines:
            self._ask(name)
        self._work()

    def _ask(self, shard: str) -> None:
        machine = self._cluster.machines[shard]
        self._cluster.network.send(self.name, shard, machine.health, self, self._cluster.world.now)

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
        if any(request.shard == shard for _, request in self._doubted):
            self._work()

    def request(self, request: Request) -> None:
        """Take what a primary asks for; who is doubted waits for a look at the member that it is about (rule 5)."""
        if request.head is None:
            self._requests.append(request)
            self._work()
        else:
            self._doubted.append((self._cluster.world.now, request))
            self._ask(request.shard)

    def _looks(self) -> dict[Request, Health | None]:
        """Return the doubted requests to whose member a call begun since was answered, or not in time."""
        now, looks, waiting = self._cluster.world.now, dict[Request, Health | None](), []
        for since, request in self._doubted:
            asked, health = self._health.get(request.shard, (-1.0, None))
            if asked >= since:
                looks[request] = health
            elif now - since > LOOK_S:
                looks[request] = None
            else:
                waiting.append((since, request))
        self._doubted = waiting
        return looks

    def _asked(self, shard: str) -> float:
        """Return when the call left that a shard answered last."""
        return self._health[shard][0] if shard in self._health else self._since

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
        requests = of_living_processes(seen, [*requests, *(looks := self._looks())])
        view = self._view(seen, requests, looks)
        plan = planner.plan(view, self._cluster.world.random) if view is not None else None
        if plan is None:
            self._done()
            return
        for slot, (before, after) in enumerate(zip(seen.map.rows, plan.map.rows, strict=True)):
            self._cluster.set_backs.removals.update(
                (slot, before.epoch, shard) for shard in before.in_sync.keys() - after.in_sync
            )
        etcd = self._cluster.etcd
        guards = guards_of(self.revision, seen, requests)
        removed = {
            seen.map.rows[request.slot].primary: request.process
            for request in requests
            if request.change is Change.REMOVE and request.epoch == seen.map.rows[request.slot].epoch
            if request.shard not in plan.map.rows[request.slot].in_sync
        }
        etcd.request(self.name, etcd.write_map, (plan.map, guards, removed), lambda result: self._written(plan, result))

    def _view(self, seen: Seen, requests: list[Request], looks: dict[Request, Health | None]) -> View | None:
        cluster, now = self._cluster, self._cluster.world.now
        if now - self._since < SILENT_S:
            return None  # It has not asked everybody yet.
        health = {shard: health for shard, (at, health) in self._health.items() if now - at < SILENT_S}
        stuck = {slot for slot, at in enumerate(self._served) if now - at > STUCK_S}
        unreachable = {shard for shard in cluster.machines if now - self._asked(shard) > UNREACHABLE_S}
        return View(
            map=seen.map,
            alive=seen.alive,
            health=health,
            unreachable=unreachable,
            requests=requests,
            looks=looks,
            stuck=stuck,
            moves=cluster.moves,
            copies=cluster.copies,
            min_copies=cluster.min_copies,
        )

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
