"""What a machine has flushed: one directory. It is lost as a whole, or comes back as it was some writes ago."""

from collections.abc import Mapping, Sequence
from typing import Final

from shard.replica.words import Apply, Install, Op, Rename, Renounce, SetEpoch, Stored, Write
from tally.cluster.op_name import OpName
from tests.simulation.content import Content
from tests.simulation.world import Broken, World


class StoredCopy:
    """One slot's part of a directory."""

    __slots__ = ("_kept", "_world", "content", "log", "stored")

    def __init__(self, world: World, stored: Stored, kept: int) -> None:
        self._world = world
        self._kept = kept
        self.stored = stored
        self.content = Content()
        self.log: list[Op] = []  # The last ops; dropped with the data (rule 9).

    def moved(self, world: World) -> "StoredCopy":
        """Return the same copy, counted in another world."""
        other = StoredCopy(world, self.stored, self._kept)
        other.content, other.log = self.content, self.log
        return other

    def write(self, writes: Sequence[Write]) -> None:
        """Do the writes of one step."""
        for write in writes:
            match write:
                case Apply():
                    self._apply(write.op)
                case SetEpoch():
                    self._raise(write.epoch)
                case Rename():
                    self._world.totals["catch-ups"] += 1
                    self._raise(write.epoch)
                    self.stored = self.stored._replace(incarnation=write.incarnation)
                case Renounce():
                    self._world.totals["renounced copies"] += 1
                    self.stored = self.stored._replace(incarnation=write.incarnation)
                case Install():
                    self._world.totals["clones"] += 1
                    self._raise(write.epoch)
                    self.stored = Stored(write.incarnation, complete=True, epoch=write.epoch, head=write.head)
                    self.content = write.content.copy()
                    self.log.clear()

    def _raise(self, epoch: int) -> None:
        if epoch < self.stored.epoch:
            raise Broken(f"rule 2: a stored epoch fell from {self.stored.epoch} to {epoch}")
        self.stored = self.stored._replace(epoch=epoch)

    def _apply(self, op: Op) -> None:
        if op.previous != self.stored.head.name:
            raise Broken(f"rule 3: {op.name} applied after {self.stored.head.name}")
        self.content.apply(op.body)
        self.stored = self.stored._replace(head=op)
        self.log.append(op)
        if len(self.log) > self._kept:
            del self.log[0]

    def ops_after(self, head: OpName | None) -> tuple[Op, ...] | None:
        """Return the ops after ``head`` if that very op is still in the log."""
        if head is None:
            return None
        for place in range(len(self.log) - 1, -1, -1):
            if self.log[place].name == head:
                return tuple(self.log[place + 1 :])
        return None


class Disk:
    """One machine's directory."""

    def __init__(self, world: World, slots: int, kept: int) -> None:
        self._world = world
        self._slots: Final = slots
        self._kept = kept
        self._founded: dict[int, str] = {}  # Slot -> the incarnation of the copy that was begun here.
        self._journal: list[tuple[int, Sequence[Write]]] = []  # All writes since then, in order.
        self.copies = self._begun(world)

    def found(self, copies: Mapping[int, str]) -> None:
        """Begin empty copies: slot -> incarnation."""
        self._founded = dict(copies)
        self.copies = self._begun(self._world)

    def _begun(self, world: World) -> list[StoredCopy]:
        copies = [StoredCopy(world, Stored(), self._kept) for _ in range(self._slots)]
        for slot, incarnation in self._founded.items():
            copies[slot].stored = Stored(incarnation, complete=True)
        return copies

    def write(self, slot: int, writes: Sequence[Write]) -> None:
        """Do the writes of one step, which are durable from then on, unless the disk lies."""
        self._journal.append((slot, writes))
        self.copies[slot].write(writes)

    def wipe(self) -> None:
        """Be a new, empty directory."""
        self._founded.clear()
        self._journal.clear()
        self.copies = self._begun(self._world)

    @property
    def writes(self) -> int:
        """How many steps have written."""
        return len(self._journal)

    def set_back(self, writes: int) -> None:
        """Be as it was before the last ``writes`` steps."""
        del self._journal[len(self._journal) - writes :]
        copies = self._begun(World(0))  # So that nothing is counted twice.
        for slot, done in self._journal:
            copies[slot].write(done)
        self.copies = [copy.moved(self._world) for copy in copies]
