"""The table in ``standstill.py``, and what the plan and the requests make of it."""

from dataclasses import replace

import pytest

from tally.cluster.controller.row_requests import Believed, outcome_of
from tally.cluster.planning.health import CopyHealth, Memory, ShardHealth
from tally.cluster.planning.placement import first_map
from tally.cluster.planning.plan import next_step
from tally.cluster.planning.standstill import Standstill, epochs_told, standstill
from tally.cluster.rows import Change, Request, new_term, with_rows
from tests.support.cluster_values import PROCESS, config, members, state

STATE = state(mapped=True)
assert STATE.map is not None
NEWER = replace(STATE, map=with_rows(STATE.map, {3: new_term(STATE.map.rows[3])}))
EMPTY = state()
RECOVERING = replace(STATE, config=replace(config(), recovering=True))


def health(epoch: int, slot: int = 3) -> dict[str, ShardHealth | None]:
    """Return what the shards say when one of them has stored an epoch."""
    copy = CopyHealth("aa" * 16, complete=True, epoch=epoch)
    return {"s0": ShardHealth(), "s1": ShardHealth({slot: copy}), "s2": None}


@pytest.mark.parametrize(
    ("of", "told", "now", "found"),
    [
        (STATE, {}, {}, None),
        (STATE, {3: 1}, {3: 1}, None),
        (STATE, {3: 2}, {3: 2}, Standstill.MAP_OLDER_THAN_COPIES),
        (STATE, {3: 1}, {3: 2}, Standstill.UNSURE),
        (NEWER, {3: 2}, {3: 2}, None),
        (NEWER, {3: 1, 4: 2}, {3: 2, 4: 2}, Standstill.MAP_OLDER_THAN_COPIES),
        (EMPTY, {}, {}, None),
        (EMPTY, {3: 0}, {3: 0}, Standstill.MAP_IS_GONE),
        (EMPTY, {}, {3: 0}, Standstill.UNSURE),
        (replace(STATE, rolled_back=True), {}, {}, Standstill.MAP_OLDER_THAN_COPIES),
        (RECOVERING, {}, {}, Standstill.RECOVERING),
        (replace(RECOVERING, map=None), {}, {}, Standstill.RECOVERING),
    ],
)
def test_each_row_of_the_table(of: object, told: dict[int, int], now: dict[int, int], found: Standstill | None) -> None:
    assert standstill(of, told, now) is found  # type: ignore[arg-type] # They are states.


def test_controller_without_memory_plans_nothing_on_a_map_that_was_rolled_back() -> None:
    """The first plan may have read the map before the copy heard of the newer row; the second one has not."""
    dead = replace(STATE, alive={"s0": "00", "s1": "00"})
    memory = Memory()
    for expected in (Standstill.UNSURE, Standstill.MAP_OLDER_THAN_COPIES, Standstill.MAP_OLDER_THAN_COPIES):
        plan = next_step(dead, health(2), 100.0, memory)
        memory = plan.memory
        assert (plan.map, plan.standstill, plan.switches) == (None, expected, {})


def test_what_a_shard_told_is_remembered_after_its_death() -> None:
    memory = next_step(STATE, health(2), 100.0).memory
    plan = next_step(STATE, dict.fromkeys(members(3)), 101.0, memory)
    assert (plan.map, plan.standstill) == (None, Standstill.MAP_OLDER_THAN_COPIES)
    assert epochs_told({3: 5}, health(2)) == {3: 5}


def test_answer_newer_than_the_map_that_was_read_raises_no_alarm_after_the_next_read() -> None:
    memory = next_step(STATE, health(2), 100.0).memory
    assert next_step(NEWER, health(2), 100.1, memory).standstill is None


def test_first_map_is_made_only_while_no_shard_has_a_copy() -> None:
    assert next_step(EMPTY, {"s0": ShardHealth()}, 1.0).map == first_map(8, members(3))
    plan = next_step(EMPTY, health(0), 1.0)
    assert (plan.map, next_step(EMPTY, {}, 2.0, plan.memory).standstill) == (None, Standstill.MAP_IS_GONE)


@pytest.mark.parametrize("change", list(Change))
def test_at_a_standstill_no_request_is_executed(change: Change) -> None:
    request = Request(change, 0, 1, "s0", "", PROCESS)
    for of, reason in ((STATE, Standstill.NOT_PLANNED), (RECOVERING, None), (replace(STATE, rolled_back=True), None)):
        found = outcome_of(of, [request], [None], Believed(standstill=reason))
        assert found.map is None
        assert found.answers[0] is not None
        assert found.answers[0].reason == (reason or standstill(of, {}, {}) or Standstill.UNSURE).value
