"""Through whom a shard asks the controller."""

from shard.to_controller import OTHERS, Ways

ALIVE = ("s1", "s2", "s3", "s4", "s5", "s6")


def test_controller_itself_comes_first_and_then_some_others() -> None:
    order = Ways("s1").order("s2", ALIVE)
    assert order[0] == "s2"
    assert len(order) == 1 + OTHERS
    assert not {"s1", "s2"} & set(order[1:])


def test_who_passed_it_on_is_asked_first_the_next_time() -> None:
    """Else each request would cost the time-out of the direct way."""
    ways = Ways("s1")
    through = ways.order("s2", ALIVE)[2]
    ways.worked(through)
    assert ways.order("s2", ALIVE)[:2] == [through, "s2"]
    ways.worked("s2")
    assert ways.order("s2", ALIVE)[0] == "s2"


def test_another_controller_is_asked_directly() -> None:
    ways = Ways("s1")
    ways.worked(ways.order("s2", ALIVE)[1])
    assert ways.order("s3", ALIVE)[0] == "s3"


def test_who_passed_it_on_and_is_gone_is_not_asked() -> None:
    ways = Ways("s1")
    ways.order("s2", ALIVE)
    ways.worked("s3")
    assert ways.order("s2", ["s1", "s2", "s4"]) == ["s2", "s4"]


def test_when_nobody_answered_it_is_tried_through_all_others_in_turn() -> None:
    ways = Ways("s1")
    asked: set[str] = set()
    for _ in range(2):
        asked |= set(ways.order("s2", ALIVE)[1:])
        ways.failed()
    assert asked == {"s3", "s4", "s5", "s6"}


def test_without_others_there_is_the_direct_way() -> None:
    assert Ways("s1").order("s2", ["s1"]) == ["s2"]
