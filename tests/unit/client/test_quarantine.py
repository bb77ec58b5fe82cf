"""Accused sub-batches go to each shard a few at a time, suspects alone."""

from tally.client.quarantine import STRUCK_MAX, TURN_S, Quarantine


def test_suspect_waits_until_the_one_before_it_is_answered() -> None:
    quarantine = Quarantine()
    assert quarantine.enter(1, "s1", 0.0, alone=True)
    assert not quarantine.enter(2, "s1", 0.1, alone=True)
    assert not quarantine.enter(3, "s1", 0.1, alone=False)
    assert quarantine.leave(1) == [2, 3]
    assert quarantine.enter(3, "s1", 0.1, alone=False)
    assert not quarantine.enter(2, "s1", 0.1, alone=True)
    assert quarantine.leave(3) == [2]


def test_struck_ones_go_a_few_at_a_time() -> None:
    quarantine = Quarantine()
    let_in = [slot for slot in range(10) if quarantine.enter(slot, "s1", 0.0, alone=False)]
    assert let_in == list(range(STRUCK_MAX))
    assert quarantine.leave(0) == list(range(STRUCK_MAX, 10))
    assert quarantine.enter(7, "s1", 0.0, alone=False)
    assert not quarantine.enter(8, "s1", 0.0, alone=False)


def test_other_shards_have_their_own() -> None:
    quarantine = Quarantine()
    assert quarantine.enter(1, "s1", 0.0, alone=True)
    assert quarantine.enter(2, "s2", 0.0, alone=True)
    assert not quarantine.enter(3, "s2", 0.0, alone=True)
    assert quarantine.leave(1) == []
    assert quarantine.leave(2) == [3]


def test_who_is_sent_again_does_not_wait_for_itself() -> None:
    quarantine = Quarantine()
    assert quarantine.enter(1, "s1", 0.0, alone=True)
    assert quarantine.enter(1, "s1", 0.1, alone=True)


def test_nobody_waits_for_long() -> None:
    quarantine = Quarantine()
    assert quarantine.enter(1, "s1", 0.0, alone=True)
    assert not quarantine.enter(2, "s1", TURN_S - 0.01, alone=True)
    assert quarantine.enter(2, "s1", TURN_S, alone=True)


def test_shard_whose_stream_broke_is_free() -> None:
    quarantine = Quarantine()
    assert quarantine.enter(1, "s1", 0.0, alone=True)
    assert not quarantine.enter(2, "s1", 0.0, alone=True)
    quarantine.broken("s1")
    assert quarantine.enter(2, "s1", 0.0, alone=True)
    assert quarantine.leave(1) == []


def test_slot_that_is_not_there_lets_nobody_in() -> None:
    quarantine = Quarantine()
    assert quarantine.leave(1) == []
    assert quarantine.enter(2, "s1", 0.0, alone=True)
    assert quarantine.leave(1) == []
