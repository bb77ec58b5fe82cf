"""Reading a shard's buckets of hours: which keys to look up, and what they add up to. Pure.

Invariants:
  * only committed counts are told: those of an op under way are taken from before it;
  * a bucket is either in the sums or refused, never both, and never in part.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from protos.tally.internal.v1 import node_pb2
from shard.counting.keys import cell_key, decode_counts
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


_Confirmed = tuple[int, SlotCopy, Term | None, bytes]
"""A bucket whose copy is known to be the newest, the copy, its term, and where its counts stand."""


class OpenQuestion:
    """A question that is not answered yet: what became of each of its buckets.

    Attributes:
        question: As it came.
        confirmed: The buckets that are only to be looked up.
        refused: The others, with their reasons.
    """

    __slots__ = ("_settled", "_waiting", "confirmed", "question", "refused")

    def __init__(self, question: Question, settled: "Callable[[OpenQuestion], None]") -> None:
        """Begin; ``settled`` is called once: when no bucket waits any more, nor the start itself (``one_less``)."""
        self.question = question
        self.confirmed: list[_Confirmed] = []
        self.refused: dict[int, node_pb2.Outcome.ValueType] = {}
        self._settled = settled
        self._waiting = 1

    def waits_for(self, bucket: int, copy: SlotCopy) -> "BucketRead":
        """Return a reader to show to the rules of the bucket's copy."""
        self._waiting += 1
        return BucketRead(self, bucket, copy)

    def one_less(self) -> None:
        """Note that a bucket waits no more; or, once at the start, that all of them have begun."""
        self._waiting -= 1
        if self._waiting == 0:
            self._settled(self)

    def confirm(self, bucket: int, copy: SlotCopy) -> None:
        """Note that the copy's committed counts may be told as long as its term lasts."""
        assert copy.record is not None
        key = cell_key(copy.record.generation, self.question.hour, bucket)
        self.confirmed.append((bucket, copy, copy.term, key))


class BucketRead:
    """One bucket that waits until its copy is known to be the newest."""

    __slots__ = ("_bucket", "_copy", "_question")

    def __init__(self, question: OpenQuestion, bucket: int, copy: SlotCopy) -> None:
        self._question = question
        self._bucket = bucket
        self._copy = copy

    def confirm(self) -> None:
        """Let the bucket be looked up."""
        self._question.confirm(self._bucket, self._copy)
        self._question.one_less()

    def refuse(self, outcome: node_pb2.Outcome.ValueType) -> None:
        """Note that there is no answer."""
        self._question.refused[self._bucket] = outcome
        self._question.one_less()


def sum_up(asked: OpenQuestion, found: Mapping[bytes, bytes | None]) -> PartOfHour:
    """Add up what was found under the keys of the buckets that were confirmed.

    To be called after the look at the store: what is committed by now may be told, what is under way may not.

    Raises:
        StoreCorrupt: Stored counts do not decode.
    """
    clicks = impressions = users = 0
    refused = dict(asked.refused)
    for bucket, copy, term, key in asked.confirmed:
        if copy.term is not term:
            # Its term ended during the look: an op that was under way is neither committed nor lost.
            refused[bucket] = node_pb2.OUTCOME_NOT_READY
            continue
        more_clicks, more_impressions, more_users = decode_counts(copy.before.get(key, found[key]))
        clicks += more_clicks
        impressions += more_impressions
        users += more_users
    return PartOfHour(HourCounts(users, clicks, impressions), refused)


def all_refused(question: Question) -> PartOfHour:
    """Return the answer of a shard that can't read at all."""
    return PartOfHour(HourCounts(0, 0, 0), dict.fromkeys(question.buckets, node_pb2.OUTCOME_NOT_READY))
