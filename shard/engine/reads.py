"""Questions about hours: each bucket confirmed by its copy, then looked up, many with one look at the store.

Invariants:
  * a look begins after everything that it answers was confirmed, so it sees what was acknowledged before that;
  * each question is answered when its own buckets are confirmed or refused: one that must wait holds up no other.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from protos.tally.internal.v1 import node_pb2
from shard.engine.hour_parts import BucketRead, PartOfHour, Question, all_refused, sum_up
from shard.engine.slot_copy import SlotCopy
from shard.engine.steps import Steps, Work
from shard.replica.words import Effects
from shard.storage.disk import Disk
from tally.errors import StoreCorrupt, StoreFailed
from tally.hashing import Shape, first_slot_of

LOOKS_AT_ONCE: Final = 2  # What is confirmed while so many are under way shares the next one.


class _Confirmed(NamedTuple):
    """A question that only has to be looked up."""

    question: Question
    reads: Sequence[BucketRead]
    part: "asyncio.Future[PartOfHour]"


class Reads:
    """All open questions of one shard. Belongs to one event loop."""

    def __init__(self, copies: Sequence[SlotCopy], steps: Steps, work: Work, *, disk: Disk, shape: Shape) -> None:
        """Prepare.

        Args:
            copies: By slot.
            steps: Shows readers to the copies' rules.
            work: Is told of a disk that fails.
            disk: What is looked up.
            shape: What is fixed for the cluster.
        """
        self._copies = copies
        self._steps = steps
        self._work = work
        self._disk = disk
        self._shape = shape
        self._confirmed: list[_Confirmed] = []
        self._looks: set[asyncio.Task[None]] = set()

    def ask(self, question: Question) -> "asyncio.Future[PartOfHour]":
        """Answer a question about an hour from committed counts."""
        part: asyncio.Future[PartOfHour] = asyncio.get_running_loop().create_future()
        reads: list[BucketRead] = []
        open_reads = len(question.buckets) + 1  # Itself, until all have begun.

        def settled() -> None:
            nonlocal open_reads
            open_reads -= 1
            if open_reads == 0:
                self._look_up(_Confirmed(question, reads, part))

        self._begin(question, reads, settled)
        settled()
        return part

    def _begin(self, question: Question, reads: list[BucketRead], settled: Callable[[], None]) -> None:
        first, slots = first_slot_of(question.hour, self._shape), self._shape.slots
        for bucket, epoch in zip(question.buckets, question.epochs, strict=True):
            copy = self._copies[(first + bucket) % slots]
            read = BucketRead(question.hour, bucket, copy, settled)
            reads.append(read)
            if self._steps.is_ahead(copy, epoch):
                read.refuse(node_pb2.OUTCOME_NOT_READY)
                continue
            if copy.replica.reads_at_once:
                read.confirm()
                continue
            # Readers do not wait for a flush; they change nothing that is written.
            effects = Effects()
            copy.replica.read(read, self._steps.now(), effects)
            assert not (copy.busy and effects.writes)
            self._steps.carry_out(copy, effects)

    def _look_up(self, confirmed: _Confirmed) -> None:
        self._confirmed.append(confirmed)
        if len(self._looks) < LOOKS_AT_ONCE:
            look = asyncio.create_task(self._look())
            self._looks.add(look)
            look.add_done_callback(self._look_ended)

    async def _look(self) -> None:
        while self._confirmed:
            confirmed, self._confirmed = self._confirmed, []
            keys = list({read.key for one in confirmed for read in one.reads if read.key})
            try:
                found = dict(zip(keys, await self._disk.get(keys), strict=True)) if keys else {}
                for one in confirmed:
                    one.part.set_result(sum_up(one.reads, found))
            except (StoreFailed, StoreCorrupt) as exc:
                self._work.fail(exc)
                for one in confirmed:
                    if not one.part.done():
                        one.part.set_result(all_refused(one.question))

    def _look_ended(self, look: asyncio.Task[None]) -> None:
        self._looks.discard(look)
        if not look.cancelled() and isinstance(failure := look.exception(), Exception):
            self._work.fail(failure)  # Nobody would be answered any more.
