"""A whole cluster, and one run of a seed: faults, then peace, then everything must be right."""

from collections import Counter
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Final

from shard.replica.replica import Role
from tally.client.counts import HourCounts
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.hashing import Shape, bucket_of, slot_of
from tests.simulation.clients import Clients
from tests.simulation.etcd import Etcd
from tests.simulation.faults import Faults
from tests.simulation.gateway import Gateway
from tests.simulation.held import Moment
from tests.simulation.history import History
from tests.simulation.ledger import Ledger
from tests.simulation.machine import Machine
from tests.simulation.network import Network
from tests.simulation.process import Process
from tests.simulation.set_backs import SetBacks
from tests.simulation.world import Broken, World

SLOTS: Final = 4
FAULTS_S: Final = 11.0
SET_BACK_IDLE: Final = 0.2  # In so many runs a disk is set back when nobody writes any more.
HEALED_S: Final = 25.0  # So long after the last fault every slot must serve, and every key be definite.
SHAPE: Final = Shape(slots=SLOTS, spreads=((0, 2),), hours_together=1)


def _hours() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return two hours with keys and two without, each two over all slots."""
    first = {slot_of(hour, 0, SHAPE): hour for hour in range(60, 0, -1)}
    return (first[0], first[2]), (first[1], first[3])


KEYED_HOURS, OTHER_HOURS = _hours()
USERS: Final = tuple(
    (user, {hour: slot_of(hour, bucket_of(hour, user, SHAPE), SHAPE) for hour in KEYED_HOURS + OTHER_HOURS})
    for user in (f"u{number}".encode() for number in range(40))
)


class Cluster:
    """All parts, and what they share."""

    def __init__(self, seed: int, tell: Callable[[str], None] | None = None) -> None:
        self.world = World(seed, tell)
        random = self.world.random
        self.slots = SLOTS
        self.shape = SHAPE
        self.keyed_hours, self.other_hours, self.users = KEYED_HOURS, OTHER_HOURS, USERS
        self.copies = random.choice((2, 3, 3))
        self.min_copies = random.choice((1, 2))
        self.usual_trouble = random.choice((0.0, 0.01, 0.04))
        self.network = Network(self.world)
        self.network.trouble = self.usual_trouble
        self.ledger = Ledger(self.world, KEYED_HOURS + OTHER_HOURS)
        self.history = History(SLOTS)
        self.calls = count(1)
        self.leases = count(1)
        self.batches = count(1)
        self.incarnations = (f"i{number}" for number in count(1))
        self.writers = 0
        self.callers: dict[int, Process] = {}
        self.moves: set[int] = set()  # Slots of which a copy is to move.
        self.wiped: set[tuple[int, str]] = set()  # Slots and incarnations of copies that went with a directory.
        self.set_backs = SetBacks(self)
        self.moments: dict[Moment, Callable[[int, str, str], None]] = {}  # What goes wrong when: slot, shard, other.
        self.machines: dict[str, Machine] = {}
        self._clocks_wrong = random.random() < 0.5
        self._kept = random.choice((3, 8, 20))
        for _ in range(3):
            self._new_machine()
        self.etcd = Etcd(self.world, self.network, self._first_map(random), self.check_members)
        self.gateway_names = ["g1", "g2"]
        self.gateways: dict[str, Gateway | None] = dict.fromkeys(self.gateway_names)
        self.clients = Clients(self)
        self.faults = Faults(self)

    def _new_machine(self) -> Machine:
        name = f"s{len(self.machines) + 1}"
        rate = self.world.random.uniform(0.8, 1.25) if self._clocks_wrong else 1.0
        machine = self.machines[name] = Machine(self, name, rate=rate, kept=self._kept)
        return machine

    def add_machine(self) -> None:
        """Let one more shard join, up to five."""
        if len(self.machines) < 5:
            self._new_machine().start()

    def _first_map(self, random: Random) -> SlotMap:
        names = list(self.machines)
        founders = random.choice((1, self.copies))
        rows = []
        for slot in range(SLOTS):
            shards = [names[(slot + place) % len(names)] for place in range(founders)]
            for shard in shards:
                self.machines[shard].founding[slot] = f"{shard}-first"
            in_sync = {shard: f"{shard}-first" for shard in shards}
            rows.append(SlotRow(1, shards[0], in_sync, min(founders, self.min_copies)))
        for machine in self.machines.values():
            machine.disk.found(machine.founding)
        return SlotMap(tuple(rows))

    def slot_of(self, hour: int, bucket: int) -> int:
        """Return the slot that owns a cell."""
        return slot_of(hour, bucket, SHAPE)

    def serving(self, slot: int) -> tuple[Machine, int] | None:
        """Return who serves a slot as the map says, and in which epoch."""
        row = self.etcd.map.rows[slot]
        machine = self.machines[row.primary]
        if machine.process is not None and machine.process.copies[slot].replica.role is Role.SERVING:
            return machine, row.epoch
        return None

    def start_gateway(self, name: str) -> None:
        """Start a gateway's process if there is none."""
        if self.gateways[name] is None:
            gateway = self.gateways[name] = Gateway(self, name)
            gateway.begin()

    def kill_gateway(self, name: str) -> None:
        """End a gateway's process, if there is one."""
        gateway, self.gateways[name] = self.gateways[name], None
        if gateway is not None:
            for event in gateway.die():
                self.clients.unknown(event)

    # One run.

    def run(self, *, faults: bool = True) -> Counter[str]:
        """Run the seed; return its totals.

        Raises:
            Broken: A promise was broken.
        """
        world = self.world
        for machine in self.machines.values():
            machine.start()
        for name in self.gateway_names:
            self.start_gateway(name)
        self.clients.begin(FAULTS_S)
        if faults:
            self.faults.begin(FAULTS_S, faults=world.random.randint(5, 14), changes=world.random.randint(1, 5))
        world.run(FAULTS_S / 2)
        self._compare_copies()
        world.run(FAULTS_S)
        self._compare_copies()
        world.trace("healed")
        self.faults.heal()
        self._settle()
        if faults and world.chance() < SET_BACK_IDLE:
            self.faults.set_back_idle()
            self._settle()
        self._check_all()
        world.totals["seeds"] += 1
        world.totals["steps"] += world.steps
        world.totals["milliseconds until healed"] += round(1000 * (world.now - FAULTS_S))
        return world.totals

    def _settle(self) -> None:
        end = self.world.now + HEALED_S
        while not self._settled():
            if self.world.now >= end:
                raise Broken(f"liveness: {self._unsettled()}")
            self.world.run(self.world.now + 0.25)

    def _settled(self) -> bool:
        return self.clients.done and not self._unsettled()

    def _unsettled(self) -> str:
        for slot, row in enumerate(self.etcd.map.rows):
            process = self.machines[row.primary].process
            assert process is not None
            copy = process.copies[slot]
            if copy.replica.row != row or copy.replica.role is not Role.SERVING or copy.under_way is not None:
                return f"slot {slot} is not served by {row.primary}: {copy.replica.role}, {row}, {copy.replica.row}"
            if len(row.in_sync) < max(row.min_copies, self.copies):
                return f"slot {slot} has too few copies: {row}"
        if self.set_backs.open_slots():
            return f"copies are older than they were, and in sync: {self.set_backs.copies}"
        for name, gateway in self.gateways.items():
            if gateway is None or not gateway.idle:
                return f"{name} is not idle"
        return "" if self.clients.done else "events with keys are in doubt"

    # What must hold.

    def check_members(self, slot: int, row: SlotRow) -> None:
        """Check that every copy of the row in force has all that was committed; to be called when either changes."""
        for shard, incarnation in row.in_sync.items():
            stored = self.machines[shard].disk.copies[slot].stored
            if self.set_backs.covers(slot, shard, incarnation):
                continue
            if not stored.complete or stored.incarnation != incarnation:
                if (slot, incarnation) not in self.wiped:
                    raise Broken(f"slot {slot}: {shard} is in {row} and has {stored}")
            elif not self.history.holds_all(slot, stored.head.name):
                raise Broken(f"slot {slot}: {shard} is in {row} and lacks a committed op; it has {stored}")

    def _compare_copies(self) -> None:
        """Complete copies whose heads have the same epoch and number hold the same."""
        for slot, row in enumerate(self.etcd.map.rows):
            seen: dict[tuple[int, int], tuple[str, Machine]] = {}
            for shard, incarnation in row.in_sync.items():
                machine = self.machines[shard]
                copy = machine.disk.copies[slot]
                if not copy.stored.complete or copy.stored.incarnation != incarnation:
                    continue
                name = copy.stored.head.name
                other = seen.setdefault((name.epoch, name.opnum), (shard, machine))[1].disk.copies[slot]
                if other.stored.head.name.digest != name.digest or not other.content.equals(copy.content):
                    raise Broken(f"slot {slot}: {list(seen.values())} and {shard} differ at {name}")

    def _check_all(self) -> None:
        contents = []
        for slot, row in enumerate(self.etcd.map.rows):
            heads = set()
            for shard, incarnation in row.in_sync.items():
                copy = self.machines[shard].disk.copies[slot]
                if not copy.stored.complete or copy.stored.incarnation != incarnation:
                    raise Broken(f"slot {slot}: {shard} is in {row} and has {copy.stored}")
                heads.add(copy.stored.head.name)
            if len(heads) != 1:
                raise Broken(f"slot {slot}: {row} has heads {heads}")
            contents.append(self.machines[row.primary].disk.copies[slot].content)
        self._compare_copies()
        for event in self.ledger.events:
            counted = contents[event.slot].events.get(event.number, 0)
            if counted > 1 or (counted == 0 and (event.acknowledged or event.keyed)):
                raise Broken(f"event {event.number} (key: {event.keyed}) was counted {counted} times")
        for hour in self.keyed_hours + self.other_hours:
            here = [event for event in self.ledger.events if event.hour == hour]
            counted_here = [event for event in here if event.number in contents[event.slot].events]
            users = {event.user for event in counted_here}
            clicks = sum(event.kind == 1 for event in counted_here)
            self.clients.read_exactly(hour, HourCounts(len(users), clicks, len(counted_here) - clicks))
        self.world.run(self.world.now + 3.0)
        if self.world.totals["last reads"] != len(self.gateway_names) * 4:
            raise Broken("the last reads were not answered")
        del self.world.totals["last reads"]


def run_seed(seed: int, tell: Callable[[str], None] | None = None, *, faults: bool = True) -> Counter[str]:
    """Run one seed and return its totals; raise ``Broken`` if a promise was broken."""
    return Cluster(seed, tell).run(faults=faults)
