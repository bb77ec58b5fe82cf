"""One gateway process: the real outboxes, coalescer and hour reads, over the fake network."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from protos.tally.internal.v1 import node_pb2
from tally.client.coalescer import Coalescer
from tally.client.counts import HourCounts
from tally.client.hour_read import Ask, HourRead
from tally.client.link import GATHER_MAX_S
from tally.client.outbox import Question, SlotOutbox
from tally.cluster.slot_map import SlotRow
from tally.errors import Overloaded
from tally.event import Event
from tests.simulation.etcd import Seen
from tests.simulation.ledger import Posted

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

TICK_S: Final = 0.1
POLL_S: Final = 1.0
WRITE_S: Final = 2.5  # So long a caller waits.
READ_S: Final = 6.0
OK: Final = node_pb2.OUTCOME_OK
NOT_OWNER: Final = node_pb2.OUTCOME_NOT_OWNER
FORGOTTEN: Final = node_pb2.OUTCOME_FORGOTTEN

Reader = Callable[[HourCounts | None], None]


def writer_ids(cluster: "Cluster", gateway: str) -> Iterator[bytes]:
    """Give the writer ids of one process start, each used by nobody before."""
    while True:
        cluster.writers += 1
        yield f"{gateway}:{cluster.writers}".encode()


class Gateway:
    """A gateway while it runs."""

    def __init__(self, cluster: "Cluster", name: str) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self.name: Final = name
        self._dead = False
        self._polling = False
        self._rows: tuple[SlotRow, ...] = ()
        self._revision = 0
        writers = writer_ids(cluster, name)
        self._outboxes: list[SlotOutbox[Posted]] = [
            SlotOutbox(slot, events_max=200, writers=writers, ids=cluster.batches) for slot in range(cluster.slots)
        ]
        self._coalescer: Coalescer[Reader] = Coalescer(readers_max=100)
        self._reads: dict[int, HourRead] = {}

    @property
    def idle(self) -> bool:
        """Nothing waits here."""
        return not self._reads and all(outbox.idle for outbox in self._outboxes)

    def begin(self) -> None:
        """Start the timers."""
        self._tick()
        self._poll_timer()

    def die(self) -> list[Posted]:
        """End; return the events that nobody will be told of."""
        self._dead = True
        lost: list[Posted] = []
        for outbox in self._outboxes:
            dropped, _ = outbox.expire(float("inf"))
            lost.extend(dropped)
            if outbox.in_doubt is not None:
                lost.extend(entry.receipt for entry in outbox.in_doubt.entries)
        return lost

    def _tick(self) -> None:
        if self._dead:
            return
        self._world.after(TICK_S, self._tick)
        now = self._world.now
        for outbox in self._outboxes:
            if not outbox.idle:
                for receipts in outbox.expire(now):
                    for event in receipts:
                        self._cluster.clients.unknown(event)
                self._pump(outbox)
        if self._reads:
            self._look_after_reads(now)

    def _look_after_reads(self, now: float) -> None:
        expired = self._coalescer.expire(now)
        for hour in expired.ended:
            del self._reads[hour]
        for hour in expired.restarted:
            self._begin(hour)
        for reader in expired.receipts:
            reader(None)
        for read in list(self._reads.values()):
            self._ask(read)

    # The map.

    def _poll_timer(self) -> None:
        if not self._dead:
            self._world.after(POLL_S, self._poll_timer)
            self._poll()

    def _poll(self) -> None:
        if not self._polling:
            self._polling = True
            etcd = self._cluster.etcd
            etcd.request(self.name, etcd.read, (), self._polled)

    def _polled(self, seen: Seen | None) -> None:
        self._polling = False
        if self._dead or seen is None or seen.map_revision <= self._revision:
            return
        self._revision, old, self._rows = seen.map_revision, self._rows, seen.map.rows
        for outbox in self._outboxes:
            if not old or old[outbox.slot] is not self._rows[outbox.slot]:
                outbox.send_again_now()
                self._pump(outbox)
        for read in list(self._reads.values()):
            read.ask_again_now()
            self._ask(read)

    # Writing.

    def post(self, event: Posted) -> None:
        """Take an event in."""
        outbox = self._outboxes[event.slot]
        try:
            outbox.add(Event(event.hour, event.user, event.kind), self._world.now + WRITE_S, event)
        except Overloaded:
            self._world.after(0.0, self._cluster.clients.unknown, event)
            return
        self._pump(outbox)

    def _pump(self, outbox: SlotOutbox[Posted]) -> None:
        if not self._rows:
            return
        batch = outbox.next_to_send(self._world.now)
        if batch is not None:
            primary = self._rows[batch.slot].primary
            machine = self._cluster.machines[primary]
            act = machine.question if isinstance(batch, Question) else machine.batch
            self._cluster.network.send(self.name, primary, act, self, batch)

    def batch_answered(self, slot: int, batch_id: int, outcome: int, opnum: int = 0, epoch: int = 0) -> None:
        """Take the answer to a sub-batch or a question."""
        if self._dead:
            return
        outbox = self._outboxes[slot]
        if outcome == OK and outbox.told(batch_id, opnum):
            self._pump(outbox)
            return
        if outcome == FORGOTTEN and epoch == self._rows[slot].epoch:
            lost = outbox.give_up(batch_id)
            for entry in lost.entries if lost is not None else ():
                self._world.totals["forgotten events"] += 1
                self._cluster.clients.unknown(entry.receipt)
            self._pump(outbox)
            return
        if outcome == OK:
            settled = outbox.settle(batch_id, opnum)
            if settled is not None:
                for entry in settled.entries:
                    self._cluster.clients.acknowledged(entry.receipt)
                self._pump(outbox)
            return
        outbox.hold_off(batch_id, self._world.now, self._world.chance())
        if outcome in (NOT_OWNER, FORGOTTEN):
            self._poll()

    def batch_refused(self, slot: int, batch_id: int) -> None:
        """Learn that a machine refuses connections."""
        self.batch_answered(slot, batch_id, NOT_OWNER)

    # Reading.

    def read(self, hour: int, reader: Reader) -> None:
        """Read an hour; ``reader`` gets the numbers, or None."""
        if self._coalescer.join(hour, self._world.now + READ_S, reader):
            self._begin(hour)

    def _begin(self, hour: int) -> None:
        read = self._reads[hour] = HourRead(hour, self._cluster.shape, self._cluster.batches)
        self._ask(read)

    def _ask(self, read: HourRead) -> None:
        if not self._rows:
            return
        for ask in read.next_asks(self._rows, self._world.now):
            self._world.after(GATHER_MAX_S * self._world.chance(), self._send_ask, ask)

    def _send_ask(self, ask: Ask) -> None:
        """Send a question; whoever came before that is answered by it."""
        read = self._reads.get(ask.hour)
        if self._dead or read is None or ask not in read.open_asks:
            return
        self._coalescer.sent(ask.hour)
        machine = self._cluster.machines[ask.shard]
        self._cluster.network.send(self.name, ask.shard, machine.read, self, ask)

    def read_answered(self, ask: Ask, sums: HourCounts, refused: list[int]) -> None:
        """Take the answer to a question."""
        if self._dead or ask.hour not in self._reads:
            return
        read = self._reads[ask.hour]
        read.answer(ask.id, sums, refused, self._world.now, self._world.chance())
        if refused:
            self._poll()
        if read.counts is not None:
            readers, again = self._coalescer.finish(ask.hour)
            counts = read.counts
            del self._reads[ask.hour]
            for reader in readers:
                reader(counts)
            if again:
                self._begin(ask.hour)

    def read_refused(self, ask: Ask) -> None:
        """Learn that a machine refuses connections."""
        self.read_answered(ask, HourCounts(0, 0, 0), list(ask.buckets))
