"""Which copies that a shard tells of are left out."""

from tally.cluster.planning.health import CopyHealth, ShardHealth
from tally.cluster.plausible import LEAP_MAX, credible
from tally.cluster.slot_map import SlotMap, SlotRow

NAME = "ab" * 16
MAP = SlotMap((SlotRow(7, "s1", {"s1": NAME}), SlotRow(9, "s1", {"s1": NAME})))


def health(*copies: tuple[int, int]) -> ShardHealth:
    """Return what a shard says of copies: slot and epoch."""
    return ShardHealth({slot: CopyHealth(NAME, complete=True, epoch=epoch) for slot, epoch in copies}, stopping=True)


def test_copies_that_there_can_be_are_believed() -> None:
    """Also when they are ahead of the map: that shows that it is an old one."""
    assert credible(told := health((0, 7), (1, 9 + LEAP_MAX)), MAP) is told


def test_copies_that_there_can_not_be_are_left_out_and_the_rest_is_believed() -> None:
    assert credible(health((0, 7 + LEAP_MAX + 1), (1, 8)), MAP) == health((1, 8))
    assert credible(health((0, 2**62), (1, 8), (2, 1)), MAP) == health((1, 8))


def test_without_a_map_nothing_is_known_better() -> None:
    assert credible(told := health((0, 2**62)), None) is told
