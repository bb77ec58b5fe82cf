"""Hashing: where a count is kept. The vectors must never change: data on disk depends on them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from tally.errors import ConfigError
from tally.event import HOUR_MAX
from tally.hashing import Shape, Slots, bucket_of, hour_of, slot_of
from tests.support.cluster_values import shapes

PLAIN = Shape(slots=256, spreads=((0, 1),), hours_together=1)  # Plain hash(hour).

# (hour, user) -> (bucket, slot)
VECTORS = {
    (0, b"ann"): (8, 225),
    (0, b"bob"): (5, 222),
    (23, b"ann"): (8, 225),
    (24, b"ann"): (8, 251),
    (478_000, b"ann"): (8, 40),
    (478_000, b"bob"): (5, 37),
    (478_000, b"Zo\xc3\xab"): (14, 46),
    (478_001, b"carol"): (4, 36),
    (495_671, b"x" * 256): (9, 238),
    (HOUR_MAX, b"ann"): (8, 113),
}
PLAIN_VECTORS = {
    (0, b"ann"): (0, 217),
    (0, b"bob"): (0, 217),
    (23, b"ann"): (0, 188),
    (24, b"ann"): (0, 75),
    (478_000, b"ann"): (0, 221),
    (478_000, b"bob"): (0, 221),
    (478_000, b"Zo\xc3\xab"): (0, 221),
    (478_001, b"carol"): (0, 242),
    (495_671, b"x" * 256): (0, 108),
    (HOUR_MAX, b"ann"): (0, 111),
}

hours = st.integers(0, HOUR_MAX)
users = st.binary(min_size=1, max_size=256)


def place(hour: int, user: bytes, shape: Shape) -> tuple[int, int]:
    bucket = bucket_of(hour, user, shape)
    return bucket, slot_of(hour, bucket, shape)


def test_hash_is_the_published_xxh3() -> None:
    """The value of the empty input in the reference implementation."""
    assert xxh3_64_intdigest(b"") == 0x2D06800538D394C2


@pytest.mark.parametrize(("cell", "expected"), VECTORS.items())
def test_default_shape_places_cells_where_it_always_did(cell: tuple[int, bytes], expected: tuple[int, int]) -> None:
    assert place(*cell, Shape()) == expected


@pytest.mark.parametrize(("cell", "expected"), PLAIN_VECTORS.items())
def test_plain_shape_places_cells_where_it_always_did(cell: tuple[int, bytes], expected: tuple[int, int]) -> None:
    assert place(*cell, PLAIN) == expected


@given(hours, users, shapes())
def test_every_event_has_a_bucket_and_a_slot_of_the_shape(hour: int, user: bytes, shape: Shape) -> None:
    bucket, slot = place(hour, user, shape)
    assert 0 <= bucket < shape.spread_at(hour)
    assert 0 <= slot < shape.slots


@given(st.lists(st.tuples(hours, users), min_size=1, max_size=20), shapes())
def test_slots_that_are_remembered_are_those_of_the_cells(events: list[tuple[int, bytes]], shape: Shape) -> None:
    slots = Slots(shape)
    for hour, user in [*events, *events]:
        assert slots.of_event(hour, user) == place(hour, user, shape)[1]


@given(hours, shapes())
def test_cells_of_an_hour_are_on_neighbouring_slots_that_differ(hour: int, shape: Shape) -> None:
    spread = shape.spread_at(hour)
    slots = [slot_of(hour, bucket, shape) for bucket in range(spread)]
    assert len(set(slots)) == spread
    assert all((one + 1) % shape.slots == next_one for one, next_one in itertools.pairwise(slots))


@given(hours, st.integers(1, 24 * 366))
def test_hours_that_go_together_share_their_slots(hour: int, together: int) -> None:
    shape = Shape(hours_together=together)
    first = hour - hour % together
    assert slot_of(first, 0, shape) == slot_of(hour, 0, shape) == slot_of(first + together - 1, 0, shape)


def test_days_are_on_different_slots() -> None:
    firsts = {slot_of(24 * day, 0, Shape()) for day in range(1000)}
    assert len(firsts) > 200


@pytest.mark.parametrize(("timestamp_ms", "hour"), [(0, 0), (3_599_999, 0), (3_600_000, 1), (7_200_000, 2)])
def test_hour_begins_with_its_first_millisecond(timestamp_ms: int, hour: int) -> None:
    assert hour_of(timestamp_ms) == hour


def test_spread_widens_from_its_hour_on() -> None:
    shape = Shape(spreads=((0, 4), (100, 16)))
    assert [shape.spread_at(hour) for hour in (0, 99, 100, HOUR_MAX)] == [4, 4, 16, 16]
    assert shape.widest == 16


@pytest.mark.parametrize(
    "arguments",
    [
        {"slots": 0},
        {"slots": 4097},
        {"hours_together": 0},
        {"hours_together": 24 * 366 + 1},
        {"spreads": ()},
        {"spreads": ((1, 4),)},
        {"spreads": ((0, 4), (0, 8))},
        {"spreads": ((0, 4), (9, 8), (5, 8))},
        {"spreads": ((0, 0),)},
        {"slots": 8, "spreads": ((0, 9),)},
    ],
)
def test_impossible_shapes_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Shape(**arguments)  # type: ignore[arg-type] # That it is wrong is the point.
