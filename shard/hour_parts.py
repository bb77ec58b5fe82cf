"""Reading a shard's buckets of hours: which keys to look up, and what they add up to. Pure.

Invariants:
  * only committed counts are told: those of an op under way are taken from before it;
  * a bucket is either in the sums or refused, never both, and never in part.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from protos.tally.internal.v1 import node_pb2
from shard.keys import Counts, cell_key
from shard.slot_copy import SlotCopy
from tally.client.counts import HourCounts
from tally.hashing import Shape, slot_of

Standings = Callable[[int, int], tuple[SlotCopy | None, node_pb2.Outcome.ValueType]]
"""(slot, epoch) -> the copy that serves it in that epoch, or None and the reason."""


class Question(NamedTuple):
    """Some buckets of one hour, each in the epoch that the asker routed by."""

    hour: int
    buckets: Sequence[int]
    epochs: Sequence[int]


class PartOfHour(NamedTuple):
    """The sums over the buckets that could be read, and the others with their reasons."""

    counts: HourCounts
    refused: Mapping[int, node_pb2.Outcome.ValueType]


class _Part(NamedTuple):
    """One bucket that a read looks up."""

    bucket: int
    key: bytes
    copy: SlotCopy
    epoch: int


class ReadPlan(NamedTuple):
    """What one question looks up, and what it can't have."""

    parts: list[_Part]
    refused: dict[int, node_pb2.Outcome.ValueType]


def plan_read(question: Question, shape: Shape, standings: Standings) -> ReadPlan:
    """Find the key of each bucket that is served here."""
    plan = ReadPlan([], {})
    for bucket, epoch in zip(question.buckets, question.epochs, strict=True):
        copy, outcome = standings(slot_of(question.hour, bucket, shape), epoch)
        if copy is None:
            plan.refused[bucket] = outcome
        else:
            plan.parts.append(_Part(bucket, cell_key(copy.record.generation, question.hour, bucket), copy, epoch))
    return plan


def sum_up(plan: ReadPlan, found: Mapping[bytes, bytes | None], standings: Standings) -> PartOfHour:
    """Add up what was found.

    To be called after the look at the store: what is committed by now may be told, what is under way may not.

    Raises:
        StoreCorrupt: Stored counts do not decode.
    """
    clicks = impressions = users = 0
    for bucket, key, copy, epoch in plan.parts:
        now_serving, outcome = standings(copy.slot, epoch)
        if now_serving is not copy:
            # Its term ended during the look: what it knew of ops under way says nothing of those of the next term.
            plan.refused[bucket] = outcome if now_serving is None else node_pb2.OUTCOME_NOT_READY
            continue
        counts = Counts.decode(copy.before.get(key, found[key]))
        clicks += counts.clicks
        impressions += counts.impressions
        users += counts.users
    return PartOfHour(HourCounts(users, clicks, impressions), plan.refused)


def all_refused(question: Question) -> PartOfHour:
    """Return the answer of a shard that can't read at all."""
    return PartOfHour(HourCounts(0, 0, 0), dict.fromkeys(question.buckets, node_pb2.OUTCOME_NOT_READY))
