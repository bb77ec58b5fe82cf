"""What goes wrong, and when: by chance, from the seed."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tests.simulation.etcd import ETCD
from tests.simulation.held import Moment
from tests.simulation.machine import Machine

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

FIRST_S: Final = 0.8
FSYNC_S: Final = (0.3, 4.0)  # How long each flush of a slow disk takes.


class Faults:
    """All faults of one run."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._random = cluster.world.random
        self._healed = False
        self._kinds: list[tuple[Callable[[], None], int]] = [
            (self._kill, 5),
            (self._kill_while_flushing, 5),
            (self._kill_with_half_sent_op, 4),
            (self._kill_new_primary, 4),
            (self._strike_at_a_moment, 14),
            (self._slow_etcd, 2),
            (self._kill_all, 1),
            (self._pause, 4),
            (self._cut_pair, 4),
            (self._isolate, 4),
            (self._cut_from_etcd, 2),
            (self._bad_network, 4),
            (self._fill_disk, 1),
            (self._slow_disk, 6),
            (self._wipe, 2),
            (self._set_back, 3),
            (self._restart_gateway, 4),
            (self._stop_controller, 2),
        ]

    def begin(self, until: float, *, faults: int, changes: int) -> None:
        """Choose when what goes wrong; ``changes`` are planned ones: moves, switches, shards that join."""
        kinds = [kind for kind, _ in self._kinds]
        weights = [weight for _, weight in self._kinds]
        uniform = self._random.uniform
        for kind in self._random.choices(kinds, weights, k=faults):
            self._world.after(uniform(FIRST_S, until), self._go_wrong, kind)
        for kind in self._random.choices([self._move, self._switch, self._join], [3, 6, 1], k=changes):
            self._world.after(uniform(FIRST_S, until), kind)

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        self._healed = True
        cluster = self._cluster
        cluster.network.mend_all()
        cluster.network.calm = False
        cluster.moments.clear()
        cluster.etcd.slow_s = 0.0
        for machine in cluster.machines.values():
            machine.disk_full = False
            machine.fsync_s = 0.0
            machine.kill_at_flush = None
            if machine.process is not None and machine.process.paused:
                machine.process.resume()
            machine.start()
        for name in cluster.gateway_names:
            cluster.start_gateway(name)

    def _go_wrong(self, kind: Callable[[], None]) -> None:
        self._world.totals["faults"] += 1
        self._world.totals[f"faults: {kind.__name__[1:].replace('_', ' ')}"] += 1
        self._world.trace(f"fault: {kind.__name__}")
        kind()

    def _later(self, low: float, high: float, act: Callable[..., None], *args: object) -> None:
        """End a fault after a while, unless it was healed before."""
        self._world.after(self._random.uniform(low, high), self._unless_healed, act, *args)

    def _unless_healed(self, act: Callable[..., None], *args: object) -> None:
        if not self._healed:
            act(*args)

    def _machine(self) -> Machine:
        """Return a machine, more often one that is primary."""
        machines = self._cluster.machines
        if self._world.chance() < 0.5:
            return machines[self._random.choice(self._cluster.etcd.map.rows).primary]
        return machines[self._random.choice(list(machines))]

    # Machines.

    def _kill(self) -> None:
        self._kill_machine(self._machine())

    def _kill_machine(self, machine: Machine) -> None:
        if not self._cluster.set_backs.expendable(machine.name):
            return
        machine.kill()
        self._later(0.05, 4.0, machine.start)

    def _kill_while_flushing(self) -> None:
        machine = self._machine()
        if machine.process is not None:
            machine.kill_at_flush = lambda: self._unless_healed(self._kill_machine, machine)

    def _kill_with_half_sent_op(self) -> None:
        """Kill a primary whose last op reaches some of its backups only, and then its successor."""
        slot = self._random.randrange(self._cluster.slots)
        machine = self._cluster.machines[self._cluster.etcd.map.rows[slot].primary]
        others = [other for other in self._cluster.machines if other != machine.name]
        self._cut([(machine.name, self._random.choice(others))], 0.2, 1.0)
        if machine.process is not None:
            machine.kill_at_flush = lambda: self._unless_healed(self._kill_machine, machine)
            if self._world.chance() < 0.7:
                self._kill_successor(slot)

    def _kill_new_primary(self) -> None:
        """Kill the next shard that serves a slot in a new epoch, soon after it began."""
        self._kill_successor(self._random.randrange(self._cluster.slots))

    def _kill_successor(self, slot: int) -> None:
        epoch = self._cluster.etcd.map.rows[slot].epoch

        def look() -> None:
            serving = self._cluster.serving(slot)
            if serving is None or serving[1] <= epoch:
                self._later(0.02, 0.02, look)
            else:
                self._later(0.0, 0.4, self._kill_machine, serving[0])

        look()

    def _strike_at_a_moment(self) -> None:
        """Wait for the next moment of a kind, and then kill, pause or cut off one of the two who take part."""
        self._cluster.moments[self._random.choice(list(Moment))] = self._strike

    def _strike(self, slot: int, one: str, other: str) -> None:
        if self._healed:
            return
        chance = self._world.chance
        self._world.trace(f"strike: slot {slot}, {one}, {other}")
        victim = self._cluster.machines[one if chance() < 0.6 else other]
        kind = chance()
        if kind < 0.6 and self._cluster.set_backs.expendable(victim.name):
            victim.kill()
            self._later(0.01, 0.15 if chance() < 0.7 else 4.0, victim.start)
        elif kind < 0.75:
            self._pause_machine(victim)
        elif kind < 0.9 and one != other:
            self._cut([(one, other)] if chance() < 0.5 else [(other, one)], 0.2, 3.0)
        if chance() < 0.5:
            self._slow_etcd()
        if chance() < 0.5:
            self._kill_at_next_row(slot)

    def _kill_at_next_row(self, slot: int) -> None:
        """Kill who was primary of a slot as soon as its row has changed."""
        row = self._cluster.etcd.map.rows[slot]

        def look() -> None:
            if self._cluster.etcd.map.rows[slot].epoch == row.epoch:
                self._later(0.02, 0.02, look)
            else:
                self._kill_machine(self._cluster.machines[row.primary])

        look()

    def _slow_etcd(self) -> None:
        """Let requests to etcd and to the controller take long."""
        self._cluster.etcd.slow_s = self._random.uniform(0.3, 2.0)
        self._later(0.2, 1.5, setattr, self._cluster.etcd, "slow_s", 0.0)

    def _kill_all(self) -> None:
        for machine in self._cluster.machines.values():
            if self._cluster.set_backs.expendable(machine.name):
                machine.kill()
                self._later(0.05, 2.5, machine.start)

    def _pause(self) -> None:
        self._pause_machine(self._machine())

    def _pause_machine(self, machine: Machine) -> None:
        process = machine.process
        if process is not None and not process.paused and self._cluster.set_backs.expendable(machine.name):
            self._world.trace(f"{machine.name} pauses")
            process.pause()
            self._later(0.1, self._random.choice((2.0, 4.5, 7.0)), process.resume)

    def _stop_controller(self) -> None:
        """Pause or kill who holds the controller's key, past its lease as often as not."""
        for machine in self._cluster.machines.values():
            if machine.process is not None and machine.process.controller is not None:
                if self._world.chance() < 0.6:
                    self._pause_machine(machine)
                else:
                    self._kill_machine(machine)
                return

    def _fill_disk(self) -> None:
        machine = self._machine()
        machine.disk_full = True
        self._later(0.3, 2.5, setattr, machine, "disk_full", False)

    def _slow_disk(self) -> None:
        """Let each flush of one or two machines take long, now or from their next start on."""
        self._slow_down(self._machine())
        if self._world.chance() < 0.3:
            self._slow_down(self._machine())

    def _slow_down(self, machine: Machine) -> None:
        machine.fsync_s = self._random.uniform(*FSYNC_S)
        self._world.trace(f"{machine.name}: a flush takes {machine.fsync_s:.1f} s")
        if self._world.chance() < 0.3:
            self._kill_machine(machine)
        self._later(0.5, 8.0, setattr, machine, "fsync_s", 0.0)

    def _wipe(self) -> None:
        """Restart a machine with an empty directory, if that is one fault only and not the end of the data."""
        machine = self._machine()
        spared = all(self._spared(slot, machine.name) for slot in range(self._cluster.slots))
        if spared and self._cluster.set_backs.expendable(machine.name):
            self._world.totals["wiped disks"] += 1
            machine.kill()
            wiped = {(slot, copy.stored.incarnation) for slot, copy in enumerate(machine.disk.copies)}
            self._cluster.wiped.update(wiped)
            machine.disk.wipe()
            self._later(0.05, 3.0, machine.start)

    def _set_back(self) -> None:
        """Restart a machine whose disk lost its last writes, or is as it was long ago; others have what it lost."""
        machine = self._machine()
        if self._disk_set_back(machine):
            self._later(0.05, 1.5, machine.start)
            if self._world.chance() < 0.5:
                self._slow_disk_beside(machine)

    def _slow_disk_beside(self, machine: Machine) -> None:
        """Let the disk that came back older be slow, or that of another machine, which perhaps restarts too."""
        if self._world.chance() < 0.7:
            machine.fsync_s = self._random.uniform(*FSYNC_S)
            self._later(0.5, 8.0, setattr, machine, "fsync_s", 0.0)
        if self._world.chance() < 0.5:
            self._slow_down(self._machine())

    def set_back_idle(self) -> None:
        """Do that when all is well and nobody writes: nothing but the restart itself tells of it."""
        machine = self._machine()
        if self._disk_set_back(machine):
            self._world.totals["disks set back, idle"] += 1
            machine.start()

    def _disk_set_back(self, machine: Machine) -> bool:
        cluster, rows = self._cluster, self._cluster.etcd.map.rows
        if not cluster.set_backs.expendable(machine.name):
            return False
        if not cluster.set_backs.safe_without(
            machine.name, settled=lambda slot: machine.name not in rows[slot].in_sync
        ):
            return False
        self._world.totals["disks set back"] += 1
        machine.kill()
        writes, chance = machine.disk.writes, self._world.chance()
        before = [copy.stored for copy in machine.disk.copies]
        machine.disk.set_back(self._random.randint(0, min(12, writes)) if chance < 0.6 else round(chance * writes))
        for slot, stored in enumerate(before):
            if stored.complete and machine.disk.copies[slot].stored != stored:
                cluster.set_backs.copies[slot, machine.name, stored.incarnation] = stored.head.name.opnum
        cluster.set_backs.open_slots()
        return True

    def _spared(self, slot: int, shard: str) -> bool:
        """Tell whether the slot loses nothing when this shard's copy is gone, whatever is under way."""
        row = self._cluster.etcd.map.rows[slot]
        if shard not in row.in_sync:
            return True
        others = 0
        for other, incarnation in row.in_sync.items():
            machine = self._cluster.machines[other]
            stored = machine.disk.copies[slot].stored
            running = machine.process is not None and not machine.process.paused
            running = running and self._cluster.network.reaches(other)
            others += other != shard and running and stored.complete and stored.incarnation == incarnation
        # A removal may be under way already: of one other copy by the primary, never of the primary itself.
        return others >= 2 or (others == 1 and row.primary != shard and len(row.in_sync) == 2)

    # Networks.

    def _cut(self, pairs: list[tuple[str, str]], low: float, high: float) -> None:
        network, machines = self._cluster.network, self._cluster.machines
        if not all(self._cluster.set_backs.expendable(name) for pair in pairs for name in pair if name in machines):
            return
        for source, target in pairs:
            network.cut_off(source, target)
        self._later(low, high, self._mend, pairs)

    def _mend(self, pairs: list[tuple[str, str]]) -> None:
        for source, target in pairs:
            self._cluster.network.mend(source, target)

    def _cut_pair(self) -> None:
        one, other = self._random.sample(list(self._cluster.machines), 2)
        pairs = [(one, other)] if self._world.chance() < 0.5 else [(one, other), (other, one)]
        self._cut(pairs, 0.3, 4.0)

    def _isolate(self) -> None:
        """Cut a machine off from the other machines and from etcd; gateways may still reach it."""
        machine = self._machine().name
        others = [other for other in self._cluster.machines if other != machine]
        if self._world.chance() < 0.5:
            others.remove(self._random.choice(others))  # One other hears it still, and may have a newer epoch.
        others.append(ETCD)
        if self._world.chance() < 0.4:
            others += self._cluster.gateway_names
        to, back = [(machine, other) for other in others], [(other, machine) for other in others]
        if self._world.chance() < 0.5:
            gateway = self._random.choice(self._cluster.gateway_names)
            self._cut([(gateway, ETCD), (ETCD, gateway)], 0.5, 8.0)
        way = self._world.chance()
        self._cut(to if way < 0.25 else back if way < 0.5 else to + back, 0.5, self._random.choice((3.0, 8.0)))

    def _cut_from_etcd(self) -> None:
        names = [self._machine().name, self._random.choice(self._cluster.gateway_names)]
        self._cut([pair for name in names for pair in ((name, ETCD), (ETCD, name))], 0.5, 4.0)

    def _bad_network(self) -> None:
        self._cluster.network.trouble = self._random.uniform(0.05, 0.3)
        self._later(0.3, 2.5, setattr, self._cluster.network, "trouble", self._cluster.usual_trouble)

    # Gateways.

    def _restart_gateway(self) -> None:
        name = self._random.choice(self._cluster.gateway_names)
        self._cluster.kill_gateway(name)
        self._later(0.05, 1.0, self._cluster.start_gateway, name)

    # Planned changes.

    def _move(self) -> None:
        self._cluster.moves.add(self._random.randrange(self._cluster.slots))

    def _switch(self) -> None:
        slot = self._random.randrange(self._cluster.slots)
        row = self._cluster.etcd.map.rows[slot]
        others = [shard for shard in row.in_sync if shard != row.primary]
        process = self._cluster.machines[row.primary].process
        if others and process is not None:
            process.enter(process.switch_to, slot, self._random.choice(others))

    def _join(self) -> None:
        self._cluster.add_machine()
