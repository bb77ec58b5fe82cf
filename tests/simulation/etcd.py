"""etcd as a linearizable model: leases, the controller's key, the map under guards.

A request may be lost, or be executed late; an answer may be lost: then its outcome is unknown, which is ``None`` here.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from tally.cluster.slot_map import SlotMap, SlotRow
from tests.simulation.network import Network
from tests.simulation.world import Broken, World

TTL_S: Final = 1.2
REQUEST_S: Final = 1.0
ETCD: Final = "etcd"


class Guards(NamedTuple):
    """What must still be so for a map to be written; None compares nothing.

    Attributes:
        alive: Shard -> the process that its alive key must not contradict.
    """

    controller: int | None
    map: int | None
    alive: Mapping[str, str] = MappingProxyType({})


class Seen(NamedTuple):
    """What a reader gets.

    Attributes:
        map_revision: The mod_revision of the map.
        alive: Shard -> the process that registered, until its lease ends.
        controller: Who holds the key; "" for nobody.
        controller_revision: The create_revision of that key.
        lease_held: Whether the reader's own lease was alive and is renewed, and its alive key is under it.
        leads: Whether the key is under the reader's own lease.
    """

    map: SlotMap
    map_revision: int
    controller: str
    controller_revision: int
    alive: Mapping[str, str]
    lease_held: bool
    leads: bool


class Etcd:
    """The keys of one cluster."""

    def __init__(self, world: World, network: Network, first: SlotMap, new_row: Callable[[int, SlotRow], None]) -> None:
        self._world = world
        self._network = network
        self._new_row = new_row
        self._revision = 1
        self.map = first
        self.map_revision = 1
        self._leases: dict[int, float] = {}  # Lease -> when it ends.
        self._alive: dict[str, tuple[int, str]] = {}  # Shard -> lease, process.
        self.lost = False  # It has no data any more, and answers nobody.
        self.slow_s = 0.0  # Requests and answers take up to so long, besides the network.
        self._controller: tuple[str, int, int] | None = None  # Shard, lease, create_revision.

    def request(
        self, source: str, action: Callable[..., Any], args: tuple[Any, ...], answer: Callable[..., None]
    ) -> None:
        """Let ``action`` happen here some time; ``answer`` gets its value, or None if that is not known in time."""
        pending = [answer]
        self._world.after(REQUEST_S, self._answer, pending, None)
        self.slowly(self._network.send, source, ETCD, self._execute, source, action, args, pending)

    def slowly(self, act: Callable[..., None], *args: Any) -> None:
        """Let something happen now, or later while everything here is slow."""
        if self.slow_s:
            self._world.after(self.slow_s * self._world.chance(), act, *args)
        else:
            act(*args)

    def _execute(self, source: str, action: Callable[..., Any], args: tuple[Any, ...], pending: list[Any]) -> None:
        if self.lost:
            self._network.send(ETCD, source, self._answer, pending, None)
            return
        for lease in [lease for lease, end in self._leases.items() if end <= self._world.now]:
            self._drop(lease)
        self._network.send(ETCD, source, self._answer, pending, action(*args))

    def _answer(self, pending: list[Callable[..., None]], value: Any) -> None:
        if pending:
            pending.pop()(value)

    def _drop(self, lease: int) -> None:
        del self._leases[lease]
        self._alive = {shard: its for shard, its in self._alive.items() if its[0] != lease}
        if self._controller is not None and self._controller[1] == lease:
            self._controller = None

    def is_alive(self, shard: str) -> bool:
        """Tell whether a shard has an alive key."""
        return shard in self._alive

    # Actions.

    def register(self, shard: str, lease: int, process: str) -> bool:
        """Make a lease, and an alive key under it."""
        self._leases[lease] = self._world.now + TTL_S
        self._alive[shard] = lease, process
        return True

    def contradicts(self, shard: str, process: str) -> bool:
        """Tell whether a shard's alive key names another process."""
        return shard in self._alive and self._alive[shard][1] != process

    def poll(self, shard: str, lease: int) -> Seen:
        """Renew a lease, stand for controller, and read all."""
        held = lease in self._leases
        if held:
            self._leases[lease] = self._world.now + TTL_S
            if self._controller is None:
                self._revision += 1
                self._controller = (shard, lease, self._revision)
                self._world.totals["controller changes"] += 1
                self._world.trace(f"etcd: {shard} is controller, revision {self._revision}")
        return self._seen(lease, held=held and self._alive.get(shard, (0, ""))[0] == lease)

    def read(self) -> Seen:
        """Read all."""
        return self._seen(0, held=True)

    def _seen(self, lease: int, *, held: bool) -> Seen:
        alive = {shard: process for shard, (_, process) in self._alive.items()}
        name, its, revision = self._controller or ("", -1, 0)
        return Seen(self.map, self.map_revision, name, revision, alive, held, its == lease)

    def write_map(self, new: SlotMap, guards: Guards, asked: Mapping[str, str] = MappingProxyType({})) -> int:
        """Write the map if the guards hold; return its revision, or 0.

        Rules 1 and 11 are checked here, where the history is: ``asked`` has the shards that had somebody removed, and
        the processes that asked for it.
        """
        revision = self._controller[2] if self._controller is not None else 0
        if guards.controller not in {None, revision} or guards.map not in {None, self.map_revision}:
            self._world.totals["guarded transactions refused"] += 1
            return 0
        if any(self.contradicts(shard, process) for shard, process in guards.alive.items()):
            self._world.totals["requests of a former process refused"] += 1
            return 0
        if any(self.contradicts(shard, process) for shard, process in asked.items()):
            raise Broken(f"rule 11: a former process of {', '.join(asked)} had somebody removed")
        for slot, (old, row) in enumerate(zip(self.map.rows, new.rows, strict=True)):
            if row is not old and row != old and row.epoch != old.epoch + 1:
                raise Broken(f"rule 1: slot {slot}: row {old} became {row}")
            if row.epoch != old.epoch:
                self._new_row(slot, row)
        self._revision += 1
        self.map, self.map_revision = new, self._revision
        return self._revision

    def recover(self, new: SlotMap) -> None:
        """Come back with a map that ``tally recover`` made, and nothing else."""
        for slot, row in enumerate(new.rows):
            self._new_row(slot, row)
        for lease in list(self._leases):
            self._drop(lease)
        self._revision += 1
        self.map, self.map_revision, self.lost = new, self._revision, False
