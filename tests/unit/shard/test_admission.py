"""Which public calls are taken, and which must go."""

import pytest

from shard.rpc.admission import Admission


def test_call_whose_message_is_awaited_for_the_longest_goes_first() -> None:
    admission: Admission[str] = Admission(reading_max=2)
    assert [admission.begin_reading(call) for call in "abcd"] == [None, None, "a", "b"]


def test_call_whose_message_came_makes_room() -> None:
    admission: Admission[str] = Admission(reading_max=2)
    admission.begin_reading("a")
    admission.begin_reading("b")
    admission.end_reading("a")
    assert admission.begin_reading("c") is None
    assert admission.begin_reading("d") == "b"


def test_end_of_a_call_that_was_refused_changes_nothing() -> None:
    admission: Admission[str] = Admission(reading_max=1)
    admission.begin_reading("a")
    assert admission.begin_reading("b") == "a"
    admission.end_reading("a")
    assert admission.begin_reading("c") == "b"


@pytest.mark.parametrize("streams", [False, True])
def test_there_is_room_for_so_many_and_again_when_one_ends(streams: bool) -> None:
    admission: Admission[str] = Admission(calls_max=2, streams_max=2)
    for _ in range(2):
        assert admission.has_room(streams=streams)
        admission.begin_serving(streams=streams)
    assert not admission.has_room(streams=streams)
    assert admission.has_room(streams=not streams)
    admission.end_serving(streams=streams)
    assert admission.has_room(streams=streams)
