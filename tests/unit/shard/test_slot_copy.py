"""How many sub-batches one op takes."""

from shard.counting.op import OP_EVENTS_MAX
from shard.engine.slot_copy import Arrived, fitting
from tests.support.copies import ANN, sub_batch
from tests.support.events import click


def arrived(*sizes: int) -> list[Arrived]:
    return [
        Arrived(sub_batch(ANN, seq, *[click("ann")] * size), lambda *_: None) for seq, size in enumerate(sizes, start=1)
    ]


def test_op_takes_all_that_fits() -> None:
    assert fitting(arrived(OP_EVENTS_MAX - 1, 1)) == 2


def test_op_leaves_what_does_not_fit() -> None:
    assert fitting(arrived(OP_EVENTS_MAX - 1, 2, 1)) == 1


def test_op_takes_one_sub_batch_at_least() -> None:
    assert fitting(arrived(OP_EVENTS_MAX, OP_EVENTS_MAX)) == 1
