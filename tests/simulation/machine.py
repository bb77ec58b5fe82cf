"""A server: its directory and its clock outlive its processes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from shard.replica.words import Message
from tally.client.hour_read import Ask
from tally.client.outbox import Question, SubBatch
from tally.cluster.rows import Request
from tally.cluster.slot_map import SlotMap
from tests.simulation.disk import Disk
from tests.simulation.ledger import Posted
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster
    from tests.simulation.controller import Controller
    from tests.simulation.gateway import Gateway


class Machine:
    """Where one shard runs, or not."""

    def __init__(self, cluster: "Cluster", name: str, *, rate: float, kept: int) -> None:
        self._cluster = cluster
        self.name: Final = name
        self.disk = Disk(cluster.world, cluster.slots, kept)
        self.founding: dict[int, str] = {}  # Slot -> incarnation of a copy that its first process begins.
        self.disk_full = False
        self.fsync_s = 0.0  # How long each flush takes besides; 0.0: the disk is well.
        self.process: Process | None = None
        self.kill_at_flush: Callable[[], None] | None = None  # What is to happen between a write and its flush.
        self._rate = rate
        self._offset = 1000.0 * cluster.world.chance()

    def now(self) -> float:
        """Return what its clock shows: it runs fast or slow, and its zero means nothing."""
        return self._offset + self._rate * self._cluster.world.now

    def real_s(self, seconds: float) -> float:
        """Return how long it takes until its clock has gone on by ``seconds``."""
        return seconds / self._rate

    def start(self) -> None:
        """Start the process if there is none."""
        if self.process is None:
            self._cluster.world.trace(f"{self.name} starts")
            self.process = Process(self._cluster, self)
            self.process.begin()

    def kill(self) -> None:
        """End the process, if there is one, with what it has not flushed; a part may have reached the disk."""
        self.kill_at_flush = None
        if self.process is not None:
            self._cluster.world.trace(f"{self.name} is killed")
            self.process.die()
            self.process = None

    # What arrives.

    def called(self, caller: Process, slot: int, call: int, message: Message) -> None:
        """Take another shard's call; without a process that has read the map the connection is refused."""
        if self.process is not None and self.process.has_map:
            self.process.enter(self.process.called, caller.name, slot, call, message)
        else:
            self._cluster.network.send(self.name, caller.name, caller.enter, caller.refused, self.name, slot, call)

    def batch(self, gateway: "Gateway", batch: SubBatch[Posted]) -> None:
        """Take a sub-batch of a gateway."""
        if self.process is not None:
            self.process.enter(self.process.batch, gateway, batch)
        else:
            self._cluster.network.send(self.name, gateway.name, gateway.batch_refused, batch.slot, batch.id)

    def question(self, gateway: "Gateway", question: Question) -> None:
        """Take a writer's question."""
        if self.process is not None:
            self.process.enter(self.process.question, gateway, question)
        else:
            self._cluster.network.send(self.name, gateway.name, gateway.batch_refused, question.slot, question.id)

    def read(self, gateway: "Gateway", ask: Ask) -> None:
        """Take a gateway's question."""
        if self.process is not None:
            self.process.enter(self.process.read, gateway, ask)
        else:
            self._cluster.network.send(self.name, gateway.name, gateway.read_refused, ask)

    def push(self, new: SlotMap, revision: int) -> None:
        """Take a map from the controller."""
        if self.process is not None:
            self.process.enter(self.process.pushed, new, revision)

    def health(self, controller: "Controller", asked: float) -> None:
        """Take a controller's health call."""
        if self.process is not None:
            self.process.enter(self.process.health, controller, asked)

    def request(self, request: Request) -> None:
        """Take what a primary asks of the controller."""
        if self.process is not None:
            self.process.enter(self.process.requested, request)
