"""Labels under which idempotency keys are known: one lasts for a day of the clock, but is never that day.

A label is a number that only grows, by one at most with each op. It began at some time of the clock; an op raises it
if the clock shows a day more than that, or more than a day less. A key is known under the present label and the four
before it.

Invariants:
  * a key is known for 48 hours at least, even if the clock jumps once in between, however far, and comes back: two of
    the four raises are the jump there and the jump back, and the others are a day apart;
  * a clock that has jumped ahead holds nothing up when it comes back: nothing waits until it was so late before.

No clock, no I/O: the time is an argument.
"""

from typing import Final, NamedTuple

from shard.counting.keys import CopyRecord, known_key, known_keys_before

DAY_MS: Final = 24 * 3_600_000
LABELS_KNOWN: Final = 5


class Label(NamedTuple):
    """A label, and what the clock showed when it began, in milliseconds since the epoch."""

    number: int
    began_ms: int


def label_of(record: CopyRecord, now_ms: int) -> Label:
    """Return the label of an op that is built now.

    Args:
        record: The copy's, as it is before the op.
        now_ms: What the clock shows, right or wrong.
    """
    if not record.label:
        # None has begun. Versions before labels put keys under days since the epoch: go on from the last of these.
        return Label(max(1, now_ms // DAY_MS, record.label_ms // DAY_MS), now_ms)
    if record.label_ms - DAY_MS <= now_ms < record.label_ms + DAY_MS:
        return Label(record.label, record.label_ms)
    return Label(record.label + 1, now_ms)


def where_known(generation: int, label: Label, key: bytes) -> list[bytes]:
    """Return where an idempotency key stands if it is known: under ``label`` or one before it, that one first."""
    return [
        known_key(generation, number, key) for number in range(label.number, max(label.number - LABELS_KNOWN, -1), -1)
    ]


def outdated_keys(record: CopyRecord, label: Label) -> list[tuple[bytes, bytes]]:
    """Return the range of the keys that are known no longer, if an op begins ``label`` and there may be some."""
    last = record.label or record.label_ms // DAY_MS
    # Nothing stands from before the labels that the last op knew. Who uses no keys gets no ranges to look through.
    if label.number == last or not record.keys_label or record.keys_label <= last - LABELS_KNOWN:
        return []
    return [known_keys_before(record.generation, max(label.number - LABELS_KNOWN + 1, 0))]
