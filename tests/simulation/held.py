"""What a process of the simulator holds: a slot each, and what waits for its answer."""

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from shard.replica.replica import Replica
from shard.replica.term import Term
from shard.replica.words import Op
from tally.client import hour_read
from tally.client.counts import HourCounts
from tally.client.outbox import SubBatch
from tally.cluster.slot_map import SlotRow
from tests.simulation.disk import StoredCopy
from tests.simulation.ledger import Posted

if TYPE_CHECKING:
    from tests.simulation.gateway import Gateway


class Moment(Enum):
    """When something may go wrong."""

    ASKED = auto()  # A primary asks for an addition or a switch.
    GRANTED = auto()  # A primary sends a clone, or the ops that a joiner lacks.
    JOINED = auto()  # A joiner has flushed them.
    TERM = auto()  # A term begins.
    BUILT = auto()  # An op is written and forwarded, and not flushed.


class Batch:
    """A sub-batch, and who waits for its answer."""

    __slots__ = ("batch", "gateway")

    def __init__(self, gateway: "Gateway", batch: SubBatch[Posted]) -> None:
        self.gateway = gateway
        self.batch = batch


class Read:
    """A gateway's question while its buckets are looked up."""

    __slots__ = ("ask", "gateway", "missing", "refused", "sums")

    def __init__(self, gateway: "Gateway", ask: hour_read.Ask) -> None:
        self.gateway = gateway
        self.ask = ask
        self.missing = len(ask.buckets)
        self.refused: list[int] = []
        self.sums = HourCounts(0, 0, 0)


class Bucket:
    """One bucket of a question."""

    __slots__ = ("bucket", "read")

    def __init__(self, read: Read, bucket: int) -> None:
        self.read = read
        self.bucket = bucket


class Copy:
    """One slot in this process."""

    __slots__ = ("busy", "disk", "outcomes", "replica", "row", "slot", "term", "under_way", "waiting", "wished")

    def __init__(self, slot: int, replica: Replica, disk: StoredCopy) -> None:
        self.slot = slot
        self.replica = replica
        self.disk = disk
        self.busy = False  # A flush is under way; events wait for its end.
        self.waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self.term: Term | None = None
        self.under_way: Op | None = None  # Built and not committed.
        self.outcomes: list[tuple[Batch, int]] = []  # What its sub-batches are told when it is.
        self.row: SlotRow | None = None
        self.wished = False
