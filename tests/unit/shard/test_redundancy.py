"""What a shard tells of the safety of its slots: slot-seconds on a single copy, copies missing, what was repaired."""

import pytest

from shard.engine.redundancy import Redundancy, RedundancyFigures
from tally.cluster.slot_map import SlotRow


def row(primary: str, *backups: str, epoch: int = 1) -> SlotRow:
    return SlotRow(epoch, primary, dict.fromkeys((primary, *backups), "d0"))


def test_a_shard_that_knows_no_map_tells_zeros() -> None:
    assert Redundancy("s1").figures(1_000.0) == RedundancyFigures()


def test_each_slot_on_a_single_copy_counts_its_own_seconds() -> None:
    redundancy = Redundancy("s1")
    redundancy.see([row("s1"), row("s1"), row("s1", "s2"), row("s2")], 3, now=100.0)
    assert redundancy.figures(100.0).single_copy_s == 0
    assert redundancy.figures(101.5).single_copy_s == pytest.approx(3.0)
    assert redundancy.figures(110.0).single_copy_s == pytest.approx(20.0)  # To ask changes nothing.


def test_seconds_on_a_single_copy_stand_still_while_another_copy_is_in_sync() -> None:
    redundancy = Redundancy("s1")
    redundancy.see([row("s1")], 2, now=10.0)
    redundancy.see([row("s1", "s2")], 2, now=14.0)
    redundancy.see([row("s1")], 2, now=20.0)
    assert redundancy.figures(21.0).single_copy_s == pytest.approx(5.0)


def test_a_slot_that_is_to_have_one_copy_is_not_on_a_single_one() -> None:
    redundancy = Redundancy("s1")
    redundancy.see([row("s1")], 1, now=0.0)
    assert redundancy.figures(60.0) == RedundancyFigures(slots_primary=1)


def test_copies_are_missing_of_own_slots_only_and_one_too_many_makes_up_for_none() -> None:
    redundancy = Redundancy("s1")
    redundancy.see([row("s1"), row("s1", "s2"), row("s1", "s2", "s3", "s4"), row("s2")], 3, now=0.0)
    figures = redundancy.figures(0.0)
    assert (figures.slots_primary, figures.copies_missing) == (3, 3)


def test_a_slot_that_goes_to_another_primary_counts_there() -> None:
    redundancy = Redundancy("s1")
    redundancy.see([row("s1")], 3, now=0.0)
    redundancy.see([row("s2")], 3, now=2.0)
    assert redundancy.figures(50.0) == RedundancyFigures(single_copy_s=2.0)


def test_copies_that_came_are_told_by_how_they_came() -> None:
    redundancy = Redundancy("s1")
    redundancy.copy_came(whole=True)
    redundancy.copy_came(whole=False)
    redundancy.copy_came(whole=False)
    figures = redundancy.figures(0.0)
    assert (figures.clones, figures.catch_ups) == (1, 2)


@pytest.mark.parametrize(
    ("known", "refused"),
    [
        (row("s1", epoch=4), 1),  # The map still says that it is primary: another copy knew better.
        (row("s2", epoch=5), 0),
        (row("s1", epoch=5), 0),
        (None, 0),
    ],
)
def test_a_term_is_refused_if_it_ended_before_the_map_said_so(known: SlotRow | None, refused: int) -> None:
    redundancy = Redundancy("s1")
    redundancy.term_ended(of=row("s1", epoch=4), known=known)
    assert redundancy.figures(0.0).terms_refused == refused
