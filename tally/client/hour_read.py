"""One read of one hour: which buckets are asked of which shard, and what they sum up to.

Invariants:
  * each bucket is taken exactly once, from the shard that was asked for it;
  * an answer to an attempt that was given up counts for nothing.

No clock, no randomness, no I/O: time and jitter are arguments.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from tally.client.counts import HourCounts
from tally.client.outbox import ATTEMPT_S, backoff_s
from tally.cluster.slot_map import SlotRow
from tally.hashing import Shape, first_slot_of


class Ask(NamedTuple):
    """One question to one shard: some buckets of an hour, each in the epoch that it was routed by."""

    id: int
    shard: str
    hour: int
    buckets: tuple[int, ...]
    epochs: tuple[int, ...]
    give_up_at: float


class HourRead:
    """The parts of one hour as they come in."""

    def __init__(self, hour: int, shape: Shape, ids: Iterator[int]) -> None:
        self.hour = hour
        self._first_slot = first_slot_of(hour, shape)
        self._slots = shape.slots
        self._missing = set(range(shape.spread_at(hour)))  # Neither taken nor asked for.
        self._asked: dict[int, Ask] = {}
        self._ids = ids
        self._refusals = 0
        self._ask_at = 0.0
        self._sums = HourCounts(0, 0, 0)

    @property
    def counts(self) -> HourCounts | None:
        """The numbers of the hour, once every bucket is in."""
        return None if self._missing or self._asked else self._sums

    @property
    def open_asks(self) -> Collection[Ask]:
        """The questions without an answer."""
        return self._asked.values()

    def next_asks(self, rows: Sequence[SlotRow], now: float) -> list[Ask]:
        """Return the questions to send now: one a shard, for all buckets that are missing; often none."""
        for late in [ask for ask in self._asked.values() if ask.give_up_at <= now]:
            del self._asked[late.id]
            self._missing.update(late.buckets)
        if not self._missing or now < self._ask_at:
            return []
        by_shard: dict[str, tuple[list[int], list[int]]] = {}
        for bucket in sorted(self._missing):
            row = rows[(self._first_slot + bucket) % self._slots]
            buckets, epochs = by_shard.get(row.primary) or by_shard.setdefault(row.primary, ([], []))
            buckets.append(bucket)
            epochs.append(row.epoch)
        asks = [
            Ask(next(self._ids), shard, self.hour, tuple(buckets), tuple(epochs), now + ATTEMPT_S)
            for shard, (buckets, epochs) in by_shard.items()
        ]
        self._asked.update((ask.id, ask) for ask in asks)
        self._missing.clear()
        return asks

    def answer(self, ask_id: int, sums: HourCounts, refused: Collection[int], now: float, jitter: float) -> None:
        """Take the answer to a question: the sums over its buckets, without those that were refused."""
        ask = self._asked.pop(ask_id, None)
        if ask is None:
            return
        if not set(refused) <= set(ask.buckets):
            self._miss(ask.buckets, now, jitter)  # Whatever that is the answer to, it is not this question.
            return
        self._sums = HourCounts(*(have + more for have, more in zip(self._sums, sums, strict=True)))
        if refused:
            self._miss(refused, now, jitter)

    def fail(self, ask_id: int, now: float, jitter: float) -> None:
        """Accept that a question will not be answered."""
        ask = self._asked.pop(ask_id, None)
        if ask is not None:
            self._miss(ask.buckets, now, jitter)

    def _miss(self, buckets: Collection[int], now: float, jitter: float) -> None:
        self._missing.update(buckets)
        self._refusals += 1
        self._ask_at = now + backoff_s(self._refusals, jitter)

    def ask_again_now(self) -> None:
        """Ask for what is missing at once: the map has changed."""
        self._ask_at = 0.0
        self._refusals = 0  # The new owner may need a moment more, not a second more.
