"""The changes of a row, and what primaries ask for: the table in ``rows.py``."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tally.cluster.rows import (
    Change,
    IllegalChange,
    Refusal,
    Request,
    add,
    execute,
    execute_all,
    give_up,
    new_term,
    promote,
    remove,
    with_min_copies,
)
from tally.cluster.slot_map import SlotMap, SlotRow

ROW = SlotRow(5, "s0", {"s0": "a0", "s1": "a1"}, 2)
MAP = SlotMap((ROW, SlotRow(9, "s1", {"s1": "b1"})), {0: ("s2", "s3")})


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (add(ROW, "s2", "a2", 2), SlotRow(6, "s0", {"s0": "a0", "s1": "a1", "s2": "a2"}, 2)),
        (remove(ROW, "s1"), SlotRow(6, "s0", {"s0": "a0"}, 2)),
        (promote(ROW, "s1"), SlotRow(6, "s1", {"s0": "a0", "s1": "a1"}, 2)),
        (new_term(ROW), SlotRow(6, "s0", {"s0": "a0", "s1": "a1"}, 2)),
        (with_min_copies(ROW, 1), SlotRow(6, "s0", {"s0": "a0", "s1": "a1"}, 1)),
        (give_up(ROW, "s7", "c7"), SlotRow(6, "s7", {"s7": "c7"}, 1, gave_up=6)),
    ],
    ids=["add", "remove", "promote", "new_term", "with_min_copies", "give_up"],
)
def test_each_change_is_the_next_epoch_and_what_the_table_says(changed: SlotRow, expected: SlotRow) -> None:
    assert changed == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda: add(ROW, "s1", "a9", 2),
        lambda: remove(ROW, "s0"),
        lambda: remove(ROW, "s2"),
        lambda: promote(ROW, "s0"),
        lambda: promote(ROW, "s2"),
        lambda: with_min_copies(ROW, 2),
        lambda: with_min_copies(ROW, 0),
    ],
)
def test_what_is_not_in_the_table_is_an_error(change: Callable[[], SlotRow]) -> None:
    with pytest.raises(IllegalChange):
        change()


@pytest.mark.parametrize(
    ("floor", "size", "of_cluster", "after"), [(1, 1, 2, 2), (1, 1, 1, 1), (2, 1, 1, 2), (1, 1, 3, 2)]
)
def test_floor_of_a_row_grows_with_its_set_and_never_falls(floor: int, size: int, of_cluster: int, after: int) -> None:
    row = SlotRow(1, "s0", {f"s{number}": "a" for number in range(size)}, floor)
    assert add(row, "s9", "a9", of_cluster).min_copies == after


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (Request(Change.ADD, 0, 4, "s2", "a2", "p0"), "epoch 5"),
        (Request(Change.ADD, 0, 6, "s2", "a2", "p0"), "epoch 5"),
        (Request(Change.ADD, 0, 5, "s7", "a7", "p0"), "nobody wishes"),
        (Request(Change.ADD, 1, 9, "s2", "a2", "p0"), "nobody wishes"),
        (Request(Change.REMOVE, 0, 5, "s1", "a9", "p0"), "not in the set"),
        (Request(Change.REMOVE, 0, 5, "s0", "a0", "p0"), "is the primary"),
        (Request(Change.REMOVE, 1, 9, "s1", "b1", "p0"), "is the primary"),
        (Request(Change.PROMOTE, 0, 5, "s2", "a2", "p0"), "not in the set"),
        (Request(Change.PROMOTE, 0, 5, "s1", "a9", "p0"), "not in the set"),
        (Request(Change.PROMOTE, 0, 5, "s0", "a0", "p0"), "is the primary"),
        (Request(Change.TERM, 0, 4, "s0", "a0", "p0"), "epoch 5"),
        (Request(Change.TERM, 2, 1, "s0", "a0", "p0"), "no such slot"),
    ],
)
def test_request_that_does_not_fit_is_refused_with_the_row(request_: Request, reason: str) -> None:
    refusal = execute(MAP, request_, min_copies=2)
    assert isinstance(refusal, Refusal)
    assert reason in refusal.reason
    assert refusal.row == (MAP.rows[request_.slot] if request_.slot < 2 else None)


def test_wish_that_came_true_is_none_any_more() -> None:
    after = execute(MAP, Request(Change.ADD, 0, 5, "s2", "a2", "p0"), min_copies=2)
    assert isinstance(after, SlotMap)
    assert after.joining == {0: ("s3",)}
    assert after.rows == (add(ROW, "s2", "a2", 2), MAP.rows[1])


def test_requests_of_several_slots_go_into_one_map_and_a_second_for_one_slot_is_refused() -> None:
    after, answers = execute_all(
        MAP,
        [
            Request(Change.PROMOTE, 0, 5, "s1", "a1", "p0"),
            Request(Change.REMOVE, 0, 5, "s1", "a1", "p0"),
            Request(Change.TERM, 1, 9, "s1", "b1", "p0"),
        ],
        min_copies=2,
    )
    assert after.rows == (promote(ROW, "s1"), new_term(MAP.rows[1]))
    assert [answer is None for answer in answers] == [True, False, True]
    assert answers[1] is not None
    assert answers[1].row == promote(ROW, "s1")


REQUESTS = st.builds(
    Request,
    st.sampled_from(Change),
    st.integers(0, 1),
    st.integers(5, 12),
    st.sampled_from(["s0", "s1", "s2", "s3"]),
    st.sampled_from(["a0", "a1", "a2", "b1"]),
)


@given(st.lists(REQUESTS, max_size=30), st.integers(1, 3))
def test_any_requests_leave_rows_that_follow_the_rules(requests: list[Request], min_copies: int) -> None:
    now = MAP
    for request in requests:
        after = execute(now, request, min_copies=min_copies)
        if isinstance(after, Refusal):
            continue
        for slot, (old, new) in enumerate(zip(now.rows, after.rows, strict=True)):
            assert new.epoch == old.epoch + (slot == request.slot)
            assert new.primary in new.in_sync
            assert old.in_sync.get(new.primary) == new.in_sync[new.primary]
            assert len(old.in_sync.keys() ^ new.in_sync.keys()) <= 1
            assert new.min_copies >= old.min_copies
        now = after
