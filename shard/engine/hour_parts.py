"""Reading a shard's buckets of hours: which keys to look up, and what they add up to. Pure.

Invariants:
  * only committed counts are told: those of an op under way are taken from before it;
  * a bucket is either in the sums or refused, never both, and never in part.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from protos.tally.internal.v1 import node_pb2
from shard.counting.keys import Counts, cell_key
from shard.engine.slot_copy import SlotCopy
from shard.replica.term import Term
from tally.client.counts import HourCounts


class Question(NamedTuple):
    """Some buckets of one hour, each in the epoch that the asker routed by."""

    hour: int
    buckets: Sequence[int]
    epochs: Sequence[int]


class PartOfHour(NamedTuple):
    """The sums over the buckets that could be read, and the others with their reasons."""

    counts: HourCounts
    refused: Mapping[int, node_pb2.Outcome.ValueType]


class BucketRead:
    """One bucket that somebody reads: confirmed once its copy is known to be the newest, or refused."""

    __slots__ = ("_hour", "_settled", "_term", "bucket", "copy", "key", "outcome")

    def __init__(self, hour: int, bucket: int, copy: SlotCopy, settled: Callable[[], None]) -> None:
        """Wait; ``settled`` is called once, when there is an outcome."""
        self._hour = hour
        self._settled = settled
        self._term: Term | None = None
        self.bucket = bucket
        self.copy = copy
        self.key = b""  # Where its counts stand, once it is confirmed.
        self.outcome = node_pb2.OUTCOME_UNSPECIFIED

    def confirm(self) -> None:
        """Note that the copy's committed counts may be told as long as its term lasts."""
        assert self.copy.record is not None
        self.key = cell_key(self.copy.record.generation, self._hour, self.bucket)
        self._term = self.copy.term
        self._settle(node_pb2.OUTCOME_OK)

    def refuse(self, outcome: node_pb2.Outcome.ValueType) -> None:
        """Note that there is no answer."""
        self._settle(outcome)

    def _settle(self, outcome: node_pb2.Outcome.ValueType) -> None:
        assert self.outcome == node_pb2.OUTCOME_UNSPECIFIED
        self.outcome = outcome
        self._settled()

    @property
    def lasts(self) -> bool:
        """Whether the term is still the one in which it was confirmed."""
        return self.copy.term is self._term


def sum_up(reads: Sequence[BucketRead], found: Mapping[bytes, bytes | None]) -> PartOfHour:
    """Add up what was found under the keys of the buckets that were confirmed.

    To be called after the look at the store: what is committed by now may be told, what is under way may not.

    Raises:
        StoreCorrupt: Stored counts do not decode.
    """
    clicks = impressions = users = 0
    refused: dict[int, node_pb2.Outcome.ValueType] = {}
    for read in reads:
        if read.outcome != node_pb2.OUTCOME_OK:
            refused[read.bucket] = read.outcome
        elif not read.lasts:
            # Its term ended during the look: an op that was under way is neither committed nor lost.
            refused[read.bucket] = node_pb2.OUTCOME_NOT_READY
        else:
            counts = Counts.decode(read.copy.before.get(read.key, found[read.key]))
            clicks += counts.clicks
            impressions += counts.impressions
            users += counts.users
    return PartOfHour(HourCounts(users, clicks, impressions), refused)


def all_refused(question: Question) -> PartOfHour:
    """Return the answer of a shard that can't read at all."""
    return PartOfHour(HourCounts(0, 0, 0), dict.fromkeys(question.buckets, node_pb2.OUTCOME_NOT_READY))
