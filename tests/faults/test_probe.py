"""The probe's arithmetic: a measurement that is wrong would promise what nobody keeps."""

from tally.hashing import bucket_of, slot_of
from tests.faults.outages import Success, unavailable_s, unavailable_within_s
from tests.faults.probe import SHAPE, SLOTS, places


def every_200_ms(begin: float, end: float) -> list[Success]:
    return [Success(begin + step / 5, begin + step / 5 + 0.01) for step in range(round((end - begin) * 5))]


def test_places_are_one_per_slot_and_the_same_for_a_seed() -> None:
    found = places(1)
    assert found == places(1) != places(2)
    owners = [slot_of(place.hour, bucket_of(place.hour, place.user.encode(), SHAPE), SHAPE) for place in found]
    assert owners == [place.slot for place in found] == list(range(SLOTS))
    assert len({place.hour for place in found}) == SLOTS


def test_slot_that_always_answers_is_unavailable_for_a_period_and_a_request() -> None:
    assert round(unavailable_s(every_200_ms(0, 10), begin=5, end=10), 2) == 0.21


def test_outage_is_from_the_sending_of_the_last_success_to_the_end_of_the_first_after_it() -> None:
    late = Success(5.2, 8.0)  # Held until the slot served again: it was sent in the outage, and ended it.
    assert round(unavailable_s([*every_200_ms(0, 5), late, *every_200_ms(8, 10)], begin=5, end=10), 2) == 3.2


def test_outage_that_has_not_ended_lasts_until_the_end() -> None:
    assert round(unavailable_s(every_200_ms(0, 5), begin=5, end=10), 2) == 5.2
    assert unavailable_s([], begin=5, end=10) == 5


def test_later_outage_counts_if_it_is_longer() -> None:
    both = [*every_200_ms(0, 5), *every_200_ms(6, 7), *every_200_ms(9, 10)]
    assert round(unavailable_s(both, begin=5, end=10), 2) == 2.21


def test_outage_that_began_before_counts_from_the_beginning() -> None:
    late = [*every_200_ms(0, 5), *every_200_ms(8, 20)]
    assert round(unavailable_within_s(late, begin=7, end=10), 2) == 1.01
    assert round(unavailable_within_s(late, begin=4, end=6), 2) == 1.2
    assert round(unavailable_within_s(late, begin=9, end=19), 2) == 0.21
    assert unavailable_within_s(late, begin=6, end=7) == 1
