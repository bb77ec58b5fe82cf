"""One slot on this shard, as the engine drives it: the copy's rules, its record, and what waits.

Invariants:
  * between ``busy`` and the flush the rules are not asked, readers excepted: what they know to be written is durable;
  * readers see committed counts only: while an op is under way the counts from before it are kept here.

No clock, no I/O.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from shard.counting.keys import CopyRecord
from shard.counting.op import OP_EVENTS_MAX, Counted, SubBatch
from shard.counting.writers import Answer
from shard.replica.replica import Replica
from shard.replica.term import Term
from shard.replica.words import Build

Reply = Callable[[Answer, int, int], None]
"""Tells a sender what became of its sub-batch: the answer, the slot's epoch here, and how many of its ops are
committed; the last is 0 where this shard does not know it.
"""

Step = Callable[..., None]
"""A method of ``Replica``; its last two arguments are the time and the effects."""


class Arrived(NamedTuple):
    """A sub-batch that waits for its op, and how to answer it."""

    batch: SubBatch
    reply: Reply


class SlotCopy:
    """What the engine knows of one slot.

    Attributes:
        record: What is stored, or is being written; None without a copy.
        wished: Somebody wishes that this shard joins.
        term: Whose op and readers these are; another one than the rules' as soon as that ended.
        busy: An op is being built, or writes are not flushed: what happens waits in ``inbox``.
        building: What the rules asked to build.
        clone_bytes: How much of a clone came so far.
        under_way: The op that is not committed yet, and its sub-batches.
    """

    __slots__ = (
        "answering",
        "building",
        "busy",
        "clone_bytes",
        "inbox",
        "record",
        "replica",
        "slot",
        "submitted",
        "term",
        "under_way",
        "wished",
    )

    def __init__(self, slot: int, replica: Replica, record: CopyRecord | None) -> None:
        self.slot: Final = slot
        self.replica: Final = replica
        self.record = record
        self.wished = False
        self.term: Term | None = None
        self.busy = False
        self.building: Build | None = None
        self.clone_bytes = 0
        self.under_way: Counted | None = None
        self.answering: list[Arrived] = []
        self.submitted: list[Arrived] = []
        self.inbox: deque[tuple[Step, tuple[Any, ...]]] = deque()

    @property
    def epoch(self) -> int:
        """The epoch of the row that is known; 0 without one."""
        return self.replica.row.epoch if self.replica.row is not None else 0

    @property
    def before(self) -> Mapping[bytes, bytes | None]:
        """The committed counts of the cells that the op under way touches; read these instead of what is stored."""
        return self.under_way.before if self.under_way is not None else {}

    @property
    def committed_opnum(self) -> int:
        """How many ops are committed; only while this copy is a primary that serves."""
        assert self.record is not None
        if self.under_way is not None and self.under_way.puts:
            return self.under_way.record.opnum - 1
        return self.record.opnum

    def take_answering(self) -> list[Arrived]:
        """Return the sub-batches of the op that was under way; from now on there is none."""
        answering, self.answering, self.under_way = self.answering, [], None
        return answering


def fitting(arrived: Sequence[Arrived]) -> int:
    """Return how many of the first sub-batches fit into one op of ``OP_EVENTS_MAX`` events; at least one."""
    events = 0
    for number, one in enumerate(arrived):
        events += len(one.batch.hours)
        if events > OP_EVENTS_MAX and number:
            return number
    return len(arrived)
