"""The writing half of the routed client without a socket: a test takes its messages out, and answers them by hand."""

import asyncio
from typing import Final

from protos.tally.internal.v1 import node_pb2
from tally.client.blame import Blame
from tally.client.receipt import Receipt
from tally.client.writing import Writing
from tally.event import Event
from tests.support.routing import SHARDS, Surroundings, answer_to

LATER: Final = 1e9
"""A deadline that no test reaches."""


class Bench:
    """A ``Writing`` between callers and shards that the test plays.

    Attributes:
        opnum: What writers are told that ask for it; None: the test sees their questions, and answers them itself.
    """

    def __init__(self, *, queue_events: int = 100, slot_queue_events: int = 50) -> None:
        self.around = Surroundings()
        self.opnum: int | None = 0
        self.blame = Blame()
        self.writing = Writing(
            lambda: self.around.state,
            queue_events=queue_events,
            slot_queue_events=slot_queue_events,
            wake=self.around.wake,
            reread_map=self.around.reread_map,
            blame=self.blame,
        )

    def record(self, *events: Event, deadline: float = LATER) -> asyncio.Future[None]:
        receipt = Receipt(len(events), asyncio.get_running_loop())
        self.writing.add(events, deadline, receipt)
        return receipt.future

    def message(self, shard: str, now: float = 0.0) -> list[node_pb2.SubBatch]:
        """Return what the link to a shard would send now, and then when its questions are answered."""
        sent: list[node_pb2.SubBatch] = []
        while True:
            request = node_pb2.ExchangeRequest()
            self.writing.fill(shard, request, now)
            questions = [one for one in request.sub_batches if one.seq == 0 and self.opnum is not None]
            sent += [one for one in request.sub_batches if one not in questions]
            if not questions:
                return sent
            for question in questions:
                self.writing.answer(answer_to(question, node_pb2.OUTCOME_OK, opnum=self.opnum or 0), now)

    def messages(self, now: float = 0.0) -> list[node_pb2.SubBatch]:
        return [batch for shard in SHARDS for batch in self.message(shard, now)]

    def sent(self, now: float = 0.0) -> node_pb2.SubBatch:
        """Return the one sub-batch that goes out now."""
        (batch,) = self.messages(now)
        return batch

    def owner(self, slot: int) -> str:
        return self.around.row(slot).primary

    def other(self, slot: int) -> str:
        return next(shard for shard in SHARDS if shard != self.owner(slot))
