"""Labels of idempotency keys: when one begins, and how long a key is known under it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard.counting.keys import CopyRecord, known_key, known_keys_before
from shard.counting.labels import DAY_MS, LABELS_KNOWN, Label, label_of, outdated_keys, where_known
from tests.support.copies import NOW_MS

TWO_DAYS_MS = 2 * DAY_MS
"""For so long a key is known at least."""
KEY = b"k" * 16


def record(label: int = 7, label_ms: int = NOW_MS, keys_label: int = 7) -> CopyRecord:
    return CopyRecord(3, bytes(16), 1, label=label, label_ms=label_ms, keys_label=keys_label)


@pytest.mark.parametrize(
    ("after_ms", "raised"),
    [
        (0, False),
        (DAY_MS - 1, False),
        (DAY_MS, True),
        (400 * DAY_MS, True),
        (-1, False),
        (-DAY_MS, False),
        (-DAY_MS - 1, True),
        (-400 * DAY_MS, True),
    ],
)
def test_label_is_raised_by_one_if_the_clock_is_a_day_ahead_or_more_than_a_day_behind(
    after_ms: int, raised: bool
) -> None:
    now_ms = NOW_MS + after_ms
    assert label_of(record(), now_ms) == (Label(8, now_ms) if raised else Label(7, NOW_MS))


@pytest.mark.parametrize(
    ("last_op_ms", "now_ms", "first"),
    [
        (0, 0, 1),
        (0, NOW_MS, NOW_MS // DAY_MS),
        (NOW_MS, NOW_MS, NOW_MS // DAY_MS),
        (NOW_MS, NOW_MS + 10 * DAY_MS, NOW_MS // DAY_MS + 10),
        (NOW_MS, NOW_MS - 10 * DAY_MS, NOW_MS // DAY_MS),  # Its clock was ahead: its keys stand under that day.
        (NOW_MS, 0, NOW_MS // DAY_MS),
    ],
)
def test_first_label_goes_on_from_the_days_of_versions_before_labels(last_op_ms: int, now_ms: int, first: int) -> None:
    assert label_of(record(0, last_op_ms, 0), now_ms) == Label(first, now_ms)


@pytest.mark.parametrize("days", [0, 1, 2])
def test_key_of_format_2_is_known_for_two_days_across_the_upgrade(days: int) -> None:
    """It stands under a day, and its copy's last op was on that day or later."""
    day = NOW_MS // DAY_MS
    old = record(0, NOW_MS, day)
    assert known_key(3, day, KEY) in where_known(3, label_of(old, NOW_MS + days * DAY_MS), KEY)


def test_key_is_looked_up_under_five_labels_the_present_one_first() -> None:
    assert where_known(3, Label(7, 0), KEY) == [known_key(3, label, KEY) for label in (7, 6, 5, 4, 3)]
    assert where_known(3, Label(2, 0), KEY) == [known_key(3, label, KEY) for label in (2, 1, 0)]


def test_what_is_known_no_longer_is_removed_when_a_label_begins() -> None:
    assert outdated_keys(record(), Label(8, 0)) == [known_keys_before(3, 4)]
    assert outdated_keys(record(), Label(7, NOW_MS)) == []
    assert outdated_keys(record(keys_label=3), Label(8, 0)) == [known_keys_before(3, 4)]
    assert outdated_keys(record(keys_label=2), Label(8, 0)) == []
    assert outdated_keys(record(keys_label=0), Label(8, 0)) == []


def test_first_label_removes_the_days_that_are_known_no_longer() -> None:
    day = NOW_MS // DAY_MS
    assert outdated_keys(record(0, NOW_MS, day), Label(day + 1, 0)) == [known_keys_before(3, day - 3)]
    assert outdated_keys(record(0, NOW_MS, 0), Label(day + 1, 0)) == []


offsets = st.lists(st.integers(0, TWO_DAYS_MS - 1), max_size=30).map(sorted)
away = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted)


@given(offsets, away, st.integers(-500 * DAY_MS, 500 * DAY_MS), st.integers(0, DAY_MS - 1))
def test_key_is_known_for_48_hours_across_one_excursion_of_the_clock(
    times: list[int], wrong: list[int], jump_ms: int, label_age_ms: int
) -> None:
    """Ops at any times within 48 hours, some of them, one after the other, by a clock that has jumped."""
    now = record(label_ms=NOW_MS - label_age_ms)
    stored = label_of(now, NOW_MS)
    now = now._replace(label=stored.number, label_ms=stored.began_ms)
    for number, time in enumerate(times):
        label = label_of(now, NOW_MS + time + (jump_ms if wrong[0] <= number < wrong[1] else 0))
        now = now._replace(label=label.number, label_ms=label.began_ms)
        assert known_key(3, stored.number, KEY) in where_known(3, label, KEY)


def test_four_labels_would_not_do() -> None:
    """A broken reading: the clock jumps there and back, and then two days pass."""
    now = record(label_ms=NOW_MS - DAY_MS + 1)
    steps = [1, 400 * DAY_MS, 2, DAY_MS + 2, 2 * DAY_MS - 1]
    for step in steps:
        label = label_of(now, NOW_MS + step)
        now = now._replace(label=label.number, label_ms=label.began_ms)
    assert now.label - 7 == LABELS_KNOWN - 1
