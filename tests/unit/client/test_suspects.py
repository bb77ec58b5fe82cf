"""Which process died with which sub-batch, and which events are not sent any more."""

import pytest

from tally.client.suspects import (
    ASIDE_FIRST_S,
    ASIDE_S,
    STRIKES_MAX,
    SUSPECT_S,
    UNEXPLAINED_S,
    Strikes,
    Suspects,
    name_of,
)
from tally.errors import SetAside
from tally.event import Event
from tests.support.events import HOUR, click, impression, keyed

BATCH, OTHER = 7, 8
ANN, BOB, CAT = click("ann"), click("bob"), click("cat")


def names(*events: Event) -> list[bytes]:
    return [name_of(event) for event in events]


def is_aside(suspects: Suspects, event: Event) -> bool:
    try:
        suspects.check([event])
    except SetAside:
        return True
    return False


def test_name_is_the_same_with_any_key_and_another_for_another_event() -> None:
    same = {name_of(event) for event in (ANN, keyed(ANN, "a"), keyed(ANN, "b"))}
    assert len(same) == 1
    assert {len(name) for name in same} == {16}
    others = names(BOB, impression("ann"), click("ann", HOUR + 1))
    assert len({*same, *others}) == 4


def test_process_that_is_gone_after_its_stream_broke_is_a_strike() -> None:
    strikes = Strikes()
    strikes.left(BATCH, "s1", "bits", 0.0)
    strikes.left(OTHER, "s2", "bits", 0.0)
    assert strikes.of(BATCH) == 0
    assert strikes.nobody_listens("s1") == [BATCH]
    assert (strikes.of(BATCH), strikes.of(OTHER)) == (1, 0)


def test_what_may_have_died_is_left_alone_until_that_shows_or_for_a_while() -> None:
    strikes = Strikes()
    assert not strikes.is_unexplained(BATCH, "s1", 0.0)
    strikes.left(BATCH, "s1", "old", 0.0)
    assert strikes.is_unexplained(BATCH, "s1", UNEXPLAINED_S - 0.01)
    assert not strikes.is_unexplained(BATCH, "s2", 0.0)
    assert not strikes.is_unexplained(BATCH, "s1", UNEXPLAINED_S)
    strikes.left(BATCH, "s1", "old", 5.0)
    strikes.running({"s1": "new"})
    assert not strikes.is_unexplained(BATCH, "s1", 5.0)
    strikes.left(BATCH, "s1", "new", 6.0)
    strikes.forget(BATCH)
    assert not strikes.is_unexplained(BATCH, "s1", 6.0)


def test_one_death_is_one_strike_however_often_it_is_noticed() -> None:
    strikes = Strikes()
    strikes.left(BATCH, "s1", "old", 0.0)
    strikes.left(BATCH, "s1", "old", 0.0)
    assert strikes.nobody_listens("s1") == [BATCH]
    assert strikes.nobody_listens("s1") == []
    assert strikes.running({"s1": "new"}) == []
    assert strikes.of(BATCH) == 1


def test_another_process_that_runs_as_the_shard_is_a_strike() -> None:
    strikes = Strikes()
    strikes.left(BATCH, "s1", "old", 0.0)
    assert strikes.running({"s1": "old"}) == []
    assert strikes.running({"s1": "new"}) == [BATCH]
    assert strikes.of(BATCH) == 1


@pytest.mark.parametrize("alive", [{}, {"s1": "same"}, {"s2": "new"}])
def test_cut_stream_and_a_lost_lease_are_no_strike(alive: dict[str, str]) -> None:
    strikes = Strikes()
    strikes.left(BATCH, "s1", "same", 0.0)
    assert strikes.running(alive) == []
    assert strikes.of(BATCH) == 0


def test_process_that_was_not_known_is_not_known_to_be_another() -> None:
    strikes = Strikes()
    strikes.left(BATCH, "s1", None, 0.0)
    assert strikes.running({"s1": "new"}) == []


def test_refusal_without_a_stream_before_it_is_no_strike() -> None:
    strikes = Strikes()
    strikes.left(BATCH, "s2", "bits", 0.0)
    assert strikes.nobody_listens("s1") == []
    assert strikes.of(BATCH) == 0


def test_deaths_of_two_shards_are_two_strikes_in_whichever_order_they_are_noticed() -> None:
    strikes = Strikes()
    strikes.left(BATCH, "s1", "bits", 0.0)
    strikes.left(BATCH, "s2", "bits", 0.0)
    assert strikes.nobody_listens("s2") == [BATCH]
    assert strikes.nobody_listens("s1") == [BATCH]
    assert strikes.of(BATCH) == 2


def test_deaths_of_two_shards_that_are_noticed_at_once_are_two_strikes_of_one_sub_batch() -> None:
    strikes = Strikes()
    strikes.left(BATCH, "s1", "old", 0.0)
    strikes.left(BATCH, "s2", "old", 0.0)
    strikes.left(OTHER, "s2", "old", 0.0)
    assert strikes.running({"s1": "new", "s2": "new"}) == [BATCH, OTHER]
    assert (strikes.of(BATCH), strikes.of(OTHER)) == (2, 1)


def test_answered_sub_batch_has_no_strikes_any_more() -> None:
    strikes = Strikes()
    strikes.left(BATCH, "s1", "bits", 0.0)
    strikes.nobody_listens("s1")
    strikes.left(BATCH, "s1", "bits", 0.0)
    strikes.forget(BATCH)
    assert strikes.nobody_listens("s1") == []
    assert strikes.of(BATCH) == 0


def test_nobody_is_suspected_at_first() -> None:
    suspects = Suspects()
    suspects.tick(0.0)
    assert not suspects
    assert not suspects.alone(ANN)
    assert not is_aside(suspects, ANN)
    assert suspects.strikes_max([ANN]) == suspects.strikes_max([ANN, BOB]) == STRIKES_MAX


def test_events_of_one_sub_batch_are_suspects_that_are_sent_alone() -> None:
    suspects = Suspects()
    assert suspects.blame(names(ANN, BOB), 0.0) is None
    assert suspects.alone(ANN)
    assert suspects.alone(keyed(BOB, "again"))
    assert not suspects.alone(CAT)
    assert not is_aside(suspects, ANN)
    assert suspects.strikes_max([ANN]) == 1
    assert suspects.strikes_max([CAT]) == STRIKES_MAX


def test_suspect_that_is_answered_is_none_any_more() -> None:
    suspects = Suspects()
    suspects.blame(names(ANN, BOB), 0.0)
    suspects.cleared(ANN)
    assert not suspects.alone(ANN)
    assert suspects.alone(BOB)


def test_suspect_with_which_a_process_dies_is_set_aside_and_after_that_a_suspect() -> None:
    suspects = Suspects()
    suspects.blame(names(ANN, BOB), 0.0)
    assert suspects.blame(names(ANN), 1.0) == ASIDE_S
    for now, aside in ((1.0, True), (ASIDE_S, True), (ASIDE_S + 1, False)):
        suspects.tick(now)
        assert (is_aside(suspects, ANN), is_aside(suspects, BOB)) == (aside, False)
    assert suspects.alone(ANN)
    assert suspects.blame(names(ANN), ASIDE_S + 1) == ASIDE_S


def test_event_that_nobody_suspected_is_set_aside_for_a_short_time_first() -> None:
    """Two processes may have died of something else."""
    suspects = Suspects()
    assert suspects.blame(names(ANN), 0.0) == ASIDE_FIRST_S
    suspects.tick(ASIDE_FIRST_S - 0.1)
    assert is_aside(suspects, ANN)
    suspects.tick(ASIDE_FIRST_S)
    assert not is_aside(suspects, ANN)
    assert suspects.strikes_max([ANN]) == 1
    assert suspects.blame(names(ANN), ASIDE_FIRST_S) == ASIDE_S


def test_call_with_an_event_that_is_set_aside_says_which_and_for_how_long() -> None:
    suspects = Suspects()
    suspects.blame(names(BOB), 0.0)
    suspects.tick(5.0)
    with pytest.raises(SetAside) as raised:
        suspects.check([ANN, BOB])
    assert (raised.value.place, raised.value.for_s) == (1, ASIDE_FIRST_S - 5.0)
    assert "bob" not in str(raised.value)


def test_what_is_set_aside_stays_so_when_it_is_suspected_once_more() -> None:
    suspects = Suspects()
    suspects.blame(names(ANN), 0.0)
    suspects.blame(names(ANN, BOB), 1.0)
    suspects.tick(2.0)
    assert is_aside(suspects, ANN)


def test_everything_is_forgotten_some_time_after_the_last_death() -> None:
    suspects = Suspects()
    suspects.blame(names(ANN, BOB), 0.0)
    suspects.blame(names(ANN), 10.0)
    suspects.tick(SUSPECT_S)
    assert (suspects.alone(ANN), suspects.alone(BOB)) == (True, False)
    suspects.tick(SUSPECT_S + 10.0)
    assert not suspects


def test_suspects_are_bounded_and_the_oldest_go_first() -> None:
    suspects = Suspects(names_max=2)
    suspects.suspect(names(ANN), 0.0)
    suspects.suspect(names(BOB), 1.0)
    suspects.suspect(names(ANN), 2.0)
    suspects.suspect(names(CAT), 3.0)
    assert [suspects.alone(event) for event in (ANN, BOB, CAT)] == [True, False, True]
