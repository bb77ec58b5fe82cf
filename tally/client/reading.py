"""The reading half of the routed client: readers of an hour share reads, whose parts are asked of shards.

A thin driver of ``coalescer`` and ``hour_read``, which hold the rules.
"""

import asyncio
import itertools
from collections.abc import Callable
from typing import Final

from protos.tally.internal.v1 import node_pb2
from tally.client.coalescer import Coalescer
from tally.client.counts import HourCounts
from tally.client.hour_read import Ask, HourRead
from tally.client.jitter import jitter
from tally.cluster.state import ClusterState
from tally.errors import TallyError, Unavailable

MESSAGE_READS_MAX: Final = 1_000

Reader = asyncio.Future[HourCounts]


class Reading:
    """Reads that are not answered yet. All methods belong to one event loop."""

    def __init__(
        self,
        state: Callable[[], ClusterState],
        *,
        readers_max: int,
        wake: Callable[[str], bool],
        reread_map: Callable[[], None],
    ) -> None:
        """Start empty.

        Args:
            state: What is known of the cluster now.
            readers_max: How many readers may wait.
            wake: Tells a shard's link that there is something to send; False if there is no way to that shard yet.
            reread_map: Called when a shard knows a newer map.
        """
        self._state = state
        self._wake = wake
        self._reread_map = reread_map
        self._ids = itertools.count(1)
        self._readers: Coalescer[Reader] = Coalescer(readers_max=readers_max)
        self._reads: dict[int, HourRead] = {}  # By hour.
        self._asks: dict[str, list[Ask]] = {}  # Shard -> questions to send.

    def add(self, hour: int, deadline: float, reader: Reader, now: float) -> None:
        """Let a reader wait for an hour.

        Raises:
            Overloaded: Too many readers wait.
        """
        if self._readers.join(hour, deadline, reader):
            self._begin(hour, now)
        elif not self._readers.is_sent(hour):
            for ask in self._reads[hour].open_asks:
                self._wake(ask.shard)  # The link gathers for as long as more come.

    def _begin(self, hour: int, now: float) -> None:
        self._reads[hour] = HourRead(hour, self._state().config.shape, self._ids)
        self._ask(self._reads[hour], now)

    def _ask(self, read: HourRead, now: float) -> None:
        held = self._state().map
        if held is None:
            return  # The timer comes back to it.
        for ask in read.next_asks(held.rows, now):
            if self._wake(ask.shard):
                self._asks.setdefault(ask.shard, []).append(ask)
            else:
                read.fail(ask.id, now, jitter())

    def fill(self, shard: str, request: node_pb2.ExchangeRequest) -> None:
        """Put the questions to a shard into a message."""
        asks = self._asks.get(shard)
        if asks:
            for ask in asks[:MESSAGE_READS_MAX]:
                read = self._reads.get(ask.hour)
                if read is None or ask not in read.open_asks:
                    continue  # It was given up while the link was stuck.
                self._readers.sent(ask.hour)
                request.reads.add(id=ask.id, hour=ask.hour, buckets=ask.buckets, epochs=ask.epochs)
            del asks[:MESSAGE_READS_MAX]

    def answer(self, answer: node_pb2.HourAnswer, now: float) -> None:
        """Take a shard's answer."""
        read = self._reads.get(answer.hour)
        if read is None:
            return  # Nobody waits for it any more.
        sums = HourCounts(answer.users, answer.clicks, answer.impressions)
        read.answer(answer.id, sums, answer.refused_buckets, now, jitter())
        if node_pb2.OUTCOME_NOT_OWNER in answer.refused_outcomes:
            self._reread_map()
        if read.counts is not None:
            self._finish(read.hour, read.counts, now)

    def _finish(self, hour: int, counts: HourCounts, now: float) -> None:
        del self._reads[hour]
        answered, begin_next = self._readers.finish(hour)
        for reader in answered:
            if not reader.done():
                reader.set_result(counts)
        if begin_next:
            self._begin(hour, now)

    def tick(self, now: float) -> None:
        """Let time pass: deadlines, and what is to be asked again."""
        expired = self._readers.expire(now)
        for reader in expired.receipts:
            _fail(reader, Unavailable("not every part of the hour could be read in time"))
        for hour in expired.ended + expired.restarted:
            del self._reads[hour]
        for hour in expired.restarted:
            self._begin(hour, now)
        for read in self._reads.values():
            self._ask(read, now)

    def map_changed(self) -> None:
        """Ask for what is missing at once, wherever the map says now."""
        for read in self._reads.values():
            read.ask_again_now()

    def link_broken(self, shard: str, now: float) -> None:
        """Ask again after a pause for what the shard has not answered."""
        self._asks.pop(shard, None)
        for read in self._reads.values():
            for ask in [ask for ask in read.open_asks if ask.shard == shard]:
                read.fail(ask.id, now, jitter())

    def close(self) -> None:
        """Tell everybody who still waits that it is over."""
        for reader in self._readers.expire(float("inf")).receipts:
            _fail(reader, Unavailable("this process is shutting down"))


def _fail(reader: Reader, error: TallyError) -> None:
    if not reader.done():
        reader.set_exception(error)
