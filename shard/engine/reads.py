"""Questions about hours: each bucket confirmed by its copy, then looked up, many with one look at the store.

Invariants:
  * a look begins after everything that it answers was confirmed, so it sees what was acknowledged before that;
  * each question is answered when its own buckets are confirmed or refused: one that must wait holds up no other;
  * whenever a question waits to be looked up, a look is under way that will take it.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from protos.tally.internal.v1 import node_pb2
from shard.engine.hour_parts import BucketRead, OpenQuestion, PartOfHour, Question, all_refused, sum_up
from shard.engine.slot_copy import SlotCopy
from shard.engine.steps import Steps, Work
from shard.replica.words import Effects
from shard.storage.disk import Disk
from tally.errors import StoreCorrupt, StoreFailed
from tally.hashing import Shape, first_slot_of
from tally.tasks import awaited

LOOKS_AT_ONCE: Final = 2  # What is confirmed while so many are under way shares the next one.


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
        self._settled: list[tuple[OpenQuestion, asyncio.Future[PartOfHour]]] = []  # To be looked up.
        self._looks: set[asyncio.Task[None]] = set()

    def ask(self, question: Question) -> "asyncio.Future[PartOfHour]":
        """Answer a question about an hour from committed counts."""
        part: asyncio.Future[PartOfHour] = asyncio.get_running_loop().create_future()
        asked = OpenQuestion(question, lambda asked: self._look_up(asked, part))
        first, slots = first_slot_of(question.hour, self._shape), self._shape.slots
        for bucket, epoch in zip(question.buckets, question.epochs, strict=True):
            copy = self._copies[(first + bucket) % slots]
            if epoch > copy.epoch:
                self._steps.is_ahead(copy, epoch)  # The map is read again.
                asked.refused[bucket] = node_pb2.OUTCOME_NOT_READY
            elif copy.replica.reads_at_once:
                asked.confirm(bucket, copy)
            else:
                self._show(copy, asked.waits_for(bucket, copy))
        asked.one_less()
        return part

    def _show(self, copy: SlotCopy, reader: BucketRead) -> None:
        # Readers do not wait for a flush; they change nothing that is written.
        effects = Effects()
        copy.replica.read(reader, self._steps.now(), effects)
        assert not (copy.busy and effects.writes)
        self._steps.carry_out(copy, effects)

    def _look_up(self, asked: OpenQuestion, part: "asyncio.Future[PartOfHour]") -> None:
        self._settled.append((asked, part))
        # A look whose last step is over takes nothing more, though its done-callback is yet to run.
        if sum(not look.done() for look in self._looks) < LOOKS_AT_ONCE:
            look = awaited(self._look(), name="look-up")
            self._looks.add(look)
            look.add_done_callback(self._look_ended)

    async def _look(self) -> None:
        while self._settled:
            settled, self._settled = self._settled, []
            keys = list({key for asked, _ in settled for *_, key in asked.confirmed})
            try:
                found = dict(zip(keys, await self._disk.get(keys), strict=True)) if keys else {}
                for asked, part in settled:
                    part.set_result(sum_up(asked, found))
            except (StoreFailed, StoreCorrupt) as exc:
                self._work.fail(exc)
                for asked, part in settled:
                    if not part.done():
                        part.set_result(all_refused(asked.question))

    def _look_ended(self, look: asyncio.Task[None]) -> None:
        self._looks.discard(look)
        if not look.cancelled() and isinstance(failure := look.exception(), Exception):
            self._work.fail(failure)  # Nobody would be answered any more.
