"""Copies that join are told together."""

from shard.engine.joined import MOST_S, QUIET_S, Joined, Joins


def test_joins_are_told_when_no_more_come() -> None:
    joined = Joined()
    for slot in range(200):
        joined.add("s1", "clone", ops=0, now=slot / 100)
        joined.add("s2", "catch_up", ops=3, now=slot / 100)
        assert joined.take_due(slot / 100) == []
    assert joined.take_due(1.99 + QUIET_S) == [Joins("s1", "clone", 200, 0), Joins("s2", "catch_up", 200, 600)]
    assert joined.take_due(100) == []


def test_joins_that_go_on_and_on_are_told_from_time_to_time() -> None:
    joined = Joined()
    told = []
    for second in range(int(MOST_S) * 3):
        joined.add("s1", "clone", ops=0, now=second * 0.9)
        told += joined.take_due(second * 0.9)
    assert len(told) == 2
