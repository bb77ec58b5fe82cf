"""``tally recover`` on the simulated cluster: asks all shards, fences all copies, writes the map that it decides on.

What is decided is the command's own code; here it only gets its answers.
"""

from typing import TYPE_CHECKING, Any, Final

from shard.replica.replica import Role
from shard.replica.words import Answer, Heads, Verdict
from tally.cluster.config import ClusterConfig
from tally.cluster.members import Member
from tally.cluster.op_name import OpName
from tally.cluster.state import ClusterState
from tally.command.recovery import decision, readiness
from tally.command.recovery.decision import CopyHead
from tests.simulation.world import Broken

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.process import Process

AGAIN_S: Final = 0.4
PATIENT_S: Final = 2.0
ASK_S: Final = 0.1


class Recoverer:
    """One operator who runs the command until it comes to its end."""

    def __init__(self, cluster: "Cluster") -> None:
        self.name: Final = "recover"
        self._cluster = cluster
        self._world = cluster.world
        self._attempt = 0
        self._told: dict[str, Process] = {}
        self._known: list[int] = []
        self._fences: list[int] = []
        self._open: dict[int, tuple[int, str]] = {}  # Call -> slot, shard.
        self._heads: dict[int, dict[str, CopyHead]] = {}

    def begin(self) -> None:
        """Ask all shards how they are, each at a time of its own."""
        if not self._cluster.etcd.lost:
            return
        self._attempt += 1
        self._told, self._known = {}, [0] * self._cluster.slots
        self._world.totals["recoveries begun"] += 1
        self._world.after(PATIENT_S, self._give_up, self._attempt)
        for machine in self._cluster.machines.values():
            if machine.process is not None:
                late_s = ASK_S * self._world.chance()
                self._world.after(late_s, machine.process.enter, self._status, self._attempt, machine.process)

    def enter(self, act: Any, *args: Any) -> None:
        """Take an answer; this process neither dies nor pauses."""
        act(*args)

    def _give_up(self, attempt: int) -> None:
        if attempt == self._attempt and self._cluster.etcd.lost:
            self._open.clear()
            self._world.after(AGAIN_S, self.begin)

    def _status(self, attempt: int, process: "Process") -> None:
        if attempt != self._attempt:
            return
        self._told[process.name] = process
        for slot, epoch in enumerate(known_to(process)):
            self._known[slot] = max(self._known[slot], epoch)
        if self._told.keys() == self._cluster.machines.keys():
            self._fence()

    def _fence(self) -> None:
        self._fences = readiness.fences_above(self._known)
        self._heads = {slot: {} for slot in range(self._cluster.slots)}
        self._open = {}
        for shard, process in self._told.items():
            for slot, copy in enumerate(process.copies):
                if copy.replica.stored.complete:
                    call = next(self._cluster.calls)
                    self._open[call] = slot, shard
                    self._cluster.callers[call] = self  # type: ignore[assignment] # It takes answers like one.
                    late_s = ASK_S * self._world.chance()
                    message = Heads(self._fences[slot])
                    self._world.after(late_s, process.enter, process.called, self.name, slot, call, message)

    def answered(self, shard: str, slot: int, call: int, answer: Answer) -> None:
        """Take what a copy tells; one that is just getting another copy is asked again in the next attempt."""
        if self._open.pop(call, None) is None or answer.verdict is not Verdict.OK:
            return
        name = answer.head.name
        self._heads[slot][shard] = CopyHead(answer.incarnation, OpName(*name))
        if not self._open:
            self._decide()

    def _decide(self) -> None:
        if not all(self._is_as_told(process) for process in self._told.values()):
            return
        cluster = self._cluster
        config = ClusterConfig(uuid="", shape=cluster.shape, copies=cluster.copies, min_copies=cluster.min_copies)
        state = ClusterState(config, {shard: Member("", "", "") for shard in self._told})
        found = decision.recovered(state, self._fences, self._heads, {})
        if found.lost or found.unlike:
            raise Broken(f"recovery: {found}")
        self._world.totals["recoveries"] += 1
        self._world.totals["copies behind at recoveries"] += sum(map(len, found.behind.values()))
        cluster.etcd.recover(decision.map_of(found, {}))

    def _is_as_told(self, process: "Process") -> bool:
        if self._cluster.machines[process.name].process is not process or process.paused:
            return False
        if any(epoch > fence for epoch, fence in zip(known_to(process), self._fences, strict=True)):
            return False
        for slot, copy in enumerate(process.copies):
            head = self._heads[slot].get(process.name)
            stored = copy.replica.stored
            if copy.replica.role is Role.SERVING or stored.complete is not (head is not None):
                return False
            if head is not None and (head.incarnation, head.name.opnum) != (
                stored.incarnation,
                stored.head.name.opnum,
            ):
                return False
        return True


def known_to(process: "Process") -> list[int]:
    """Return by slot the highest epoch that a shard has stored, or knows of a row."""
    return [
        max(copy.replica.stored.epoch if copy.replica.stored.complete else 0, copy.row.epoch if copy.row else 0)
        for copy in process.copies
    ]
