"""What is run for which settings, and what is made of it."""

import json

import pytest

from bench.figures import Figures
from bench.goals import GOALS
from bench.load.open_loop import parse_outcomes
from bench.load.open_run import OpenRun
from bench.load.schedule import Second, Stage, StageOutcome
from bench.questions import overload
from bench.questions.bulk import found_in as bulk_found_in
from bench.questions.side_by_side import PEERS, SIDE_BY_SIDE, runs_of
from bench.settings import Settings

ALL_NAMES = ("post", "post-known", "get", "mix")


def settings(*only: str, everywhere: bool = False, connections: tuple[int, ...] = (64, 256)) -> Settings:
    return Settings(
        only=frozenset(only),
        peers=tuple(PEERS),
        everywhere=everywhere,
        rounds=2,
        seconds=3.0,
        connections=connections,
        server_core=1,
        load_core=0,
        big_hour_users=1,
    )


def test_beyond_the_reference_only_what_a_goal_asks_for_runs() -> None:
    runs = [(workload.name, workload.connections, names) for workload, names in runs_of(settings("post", "mix"))]
    everyone = ["tally", *PEERS]
    assert runs == [("post", 64, everyone), ("post", 256, ["tally", "nginx-redis"]), ("mix", 64, everyone)]


def test_every_pair_runs_when_everything_is_asked_for() -> None:
    runs = list(runs_of(settings(*ALL_NAMES, everywhere=True, connections=(16, 64, 256))))
    assert len(runs) == 4 * 3
    assert all(names == ["tally", *PEERS] for _, names in runs)


def test_cost_is_that_of_the_runs() -> None:
    assert SIDE_BY_SIDE.cost_s(settings("mix")) == 2 * 3.0 * 4
    assert SIDE_BY_SIDE.cost_s(settings("bulk")) == 0
    assert not SIDE_BY_SIDE.is_asked(settings("bulk"))


def test_goals_beside_peers_are_about_what_runs() -> None:
    ran = {
        f"{workload.name}/{name}/{workload.connections}"
        for workload, names in runs_of(settings(*ALL_NAMES))
        for name in names
    }
    wanted = {goal.name for goal in GOALS if any(peer in goal.name for peer in PEERS)}
    assert wanted
    assert wanted <= ran


def outcome(*, goodput: float = 100.0, refused: int = 0, refusal_ms: float = 0.0, well: bool = True) -> StageOutcome:
    return StageOutcome(
        due=100,
        unsent=0,
        good=100,
        refused=refused,
        failed=0,
        goodput_per_s=goodput,
        p50_ms=1.0,
        p99_ms=2.0,
        p999_ms=3.0,
        refusal_p99_ms=refusal_ms,
        refusal_sent_p99_ms=refusal_ms,
        lag_p99_ms=0.1,
        seconds=[Second(100, 10, 5.0), Second(100, 100 if well else 10, 5.0)],
    )


def test_overload_is_judged_by_the_stage_after_which_it_has_to_recover() -> None:
    stages = [Stage(50, 1), Stage(150, 1), Stage(50, 2), Stage(300, 1), Stage(50, 2)]
    outcomes = [
        outcome(),
        outcome(goodput=80, refused=9, refusal_ms=12),
        outcome(),
        outcome(goodput=5),
        outcome(well=False),
    ]
    found = overload.found_in(OpenRun(outcomes, 100.0, 130.0, 0.02), stages, 100.0)
    assert {name: spread.median for name, spread in found.measured.items()} == {
        "overload/goodput": 0.8,
        "overload/refusal": 12,
        "overload/memory": 30.0,
        "overload/recovery": 1.0,
    }
    (section,) = found.sections
    assert len(section.rows) == len(stages)
    assert "1 s at 1.5 times, more than 12 s at 3 times" in section.notes[0]


def test_refusals_are_not_judged_where_there_were_none() -> None:
    stages = [Stage(50, 1)] * 5
    found = overload.found_in(OpenRun([outcome()] * 5, 100.0, 100.0, 0.02), stages, 100.0)
    assert "overload/refusal" not in found.measured


def test_bulk_compares_the_first_with_the_second() -> None:
    def runs(cpu_us: float) -> list[Figures]:
        return [Figures(1000.0, cpu_us, 0.0, 0.0, 0.0, 0.0)] * 2

    found = bulk_found_in({"Tally": runs(6.0), "redis-cli --pipe": runs(4.0)})
    assert found.measured["bulk"].median == 1.5
    assert [row[0] for row in found.sections[0].rows] == ["Tally", "redis-cli --pipe"]


def test_outcomes_come_back_as_they_left() -> None:
    before = [outcome(refused=1)]
    assert parse_outcomes(json.dumps([one._asdict() for one in before])) == before


@pytest.mark.parametrize("name", ["copies", "shards", "bulk", "history/get", "big-hour/post", "overload/goodput"])
def test_goal_has_the_name_that_its_question_uses(name: str) -> None:
    assert name in {goal.name for goal in GOALS}
