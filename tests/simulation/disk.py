"""What a machine has flushed: one directory, lost as a whole or not at all."""

from collections.abc import Sequence

from shard.replica.words import Apply, Install, Op, OpName, Rename, SetEpoch, Stored, Write
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

    def write(self, writes: Sequence[Write]) -> None:
        """Do the writes of one step, which are durable from then on."""
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
        self._slots = slots
        self._kept = kept
        self.copies: list[StoredCopy] = []
        self.wipe()

    def wipe(self) -> None:
        """Be a new, empty directory."""
        self.copies = [StoredCopy(self._world, Stored(), self._kept) for _ in range(self._slots)]
