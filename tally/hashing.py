"""From a time and a user to the slot that owns the count: the same in every process, for the life of a cluster.

Invariants:
  * a pair (hour, user) has exactly one bucket, and a cell (hour, bucket) exactly one slot;
  * the cells of one hour lie on ``spread`` different slots, next to each other;
  * hours that share a group of ``hours_together`` share their slots.

Pure. The vectors in ``tests/unit/tally/test_hashing.py`` must never change: data on disk depends on them.
"""

from dataclasses import dataclass
from typing import Final

from xxhash import xxh3_64_intdigest

from tally.errors import ConfigError

MS_PER_HOUR: Final = 3_600_000
SLOTS_MAX: Final = 4096
HOURS_TOGETHER_MAX: Final = 24 * 366
HOURS_REMEMBERED: Final = 10_000


def hour_of(timestamp_ms: int) -> int:
    """Return the whole hours between the Unix epoch and ``timestamp_ms``, UTC."""
    assert timestamp_ms >= 0
    return timestamp_ms // MS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides which slot owns a cell; fixed when a cluster is made.

    Attributes:
        slots: How many units of ownership there are, 1 to ``SLOTS_MAX``.
        spreads: Pairs (from hour, spread), by rising hour, the first from hour 0: into how many buckets an hour is
            split from that hour on. A list, so that a later version can widen the hours to come.
        hours_together: How many neighbouring hours share their slots.
    """

    slots: int = 256
    spreads: tuple[tuple[int, int], ...] = ((0, 16),)
    hours_together: int = 24

    def __post_init__(self) -> None:
        if not 1 <= self.slots <= SLOTS_MAX:
            raise ConfigError("slots", self.slots, f"1..{SLOTS_MAX}")
        if not 1 <= self.hours_together <= HOURS_TOGETHER_MAX:
            raise ConfigError("hours_together", self.hours_together, f"1..{HOURS_TOGETHER_MAX}")
        starts = [start for start, _ in self.spreads]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)):
            raise ConfigError("spread", self.spreads, "pairs [from hour, spread] by rising hour, the first from hour 0")
        for _, spread in self.spreads:
            # More buckets than slots would put two buckets of an hour into one slot, for nothing.
            if not 1 <= spread <= self.slots:
                raise ConfigError("spread", spread, f"1..{self.slots} (the number of slots)")

    def spread_at(self, hour: int) -> int:
        """Return into how many buckets ``hour`` is split."""
        for start, spread in reversed(self.spreads):
            if hour >= start:
                return spread
        raise AssertionError(f"no spread for hour {hour}")

    @property
    def widest(self) -> int:
        """The largest spread of any hour."""
        return max(spread for _, spread in self.spreads)


def bucket_of(hour: int, user: bytes, shape: Shape) -> int:
    """Return the bucket of ``hour`` that counts ``user``."""
    return bucket_among(user, shape.spread_at(hour))


def bucket_among(user: bytes, spread: int) -> int:
    """Return which of so many buckets counts ``user``."""
    # Not hash(): it is salted per process, so two gateways would disagree.
    return xxh3_64_intdigest(user) % spread


def slot_of(hour: int, bucket: int, shape: Shape) -> int:
    """Return the slot that owns a cell.

    Args:
        hour: Whole hours since the Unix epoch, not negative.
        bucket: ``0 <= bucket < shape.spread_at(hour)``.
        shape: What is fixed for the life of a cluster.

    Source: ARCHITECTURE.md, "Words".
    """
    assert hour >= 0
    assert 0 <= bucket < shape.spread_at(hour)
    return (first_slot_of(hour, shape) + bucket) % shape.slots


def first_slot_of(hour: int, shape: Shape) -> int:
    """Return the slot of bucket 0 of ``hour``; bucket b is b slots further on, round the end."""
    return xxh3_64_intdigest((hour // shape.hours_together).to_bytes(8, "big")) % shape.slots


class Slots:
    """``slot_of`` for events, which remembers the hours that it was asked for."""

    def __init__(self, shape: Shape) -> None:
        self.shape: Final = shape
        self._hours: dict[int, tuple[int, int]] = {}  # First slot and spread.

    def of_event(self, hour: int, user: bytes) -> int:
        """Return the slot that owns the cell of an event."""
        known = self._hours.get(hour)
        if known is None:
            if len(self._hours) >= HOURS_REMEMBERED:
                self._hours.clear()
            known = self._hours[hour] = first_slot_of(hour, self.shape), self.shape.spread_at(hour)
        first, spread = known
        return (first + bucket_among(user, spread)) % self.shape.slots
