"""Accused sub-batches go to each shard one after the other."""

from tally.client.quarantine import ALONE_S, Quarantine


def test_second_waits_until_the_first_is_answered() -> None:
    quarantine = Quarantine()
    assert quarantine.enter(1, "s1", 0.0)
    assert not quarantine.enter(2, "s1", 0.1)
    assert not quarantine.enter(3, "s1", 0.1)
    assert quarantine.leave(1) == [2, 3]
    assert quarantine.enter(3, "s1", 0.1)
    assert not quarantine.enter(2, "s1", 0.1)
    assert quarantine.leave(3) == [2]


def test_other_shards_have_their_own() -> None:
    quarantine = Quarantine()
    assert quarantine.enter(1, "s1", 0.0)
    assert quarantine.enter(2, "s2", 0.0)
    assert not quarantine.enter(3, "s2", 0.0)
    assert quarantine.leave(1) == []
    assert quarantine.leave(2) == [3]


def test_who_is_sent_again_does_not_wait_for_itself() -> None:
    quarantine = Quarantine()
    assert quarantine.enter(1, "s1", 0.0)
    assert quarantine.enter(1, "s1", 0.1)


def test_nobody_waits_for_long() -> None:
    quarantine = Quarantine()
    assert quarantine.enter(1, "s1", 0.0)
    assert not quarantine.enter(2, "s1", ALONE_S - 0.01)
    assert quarantine.enter(2, "s1", ALONE_S)
    assert quarantine.leave(1) == [], "another is there by now"


def test_shard_whose_stream_broke_is_free() -> None:
    quarantine = Quarantine()
    assert quarantine.enter(1, "s1", 0.0)
    assert not quarantine.enter(2, "s1", 0.0)
    quarantine.broken("s1")
    assert quarantine.enter(2, "s1", 0.0)
    assert quarantine.leave(1) == []


def test_slot_that_is_not_there_lets_nobody_in() -> None:
    quarantine = Quarantine()
    assert quarantine.leave(1) == []
    assert quarantine.enter(2, "s1", 0.0)
    assert quarantine.leave(1) == []
