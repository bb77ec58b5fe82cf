"""How long does a durable POST take when the system has half of what it can take?

At a fixed rate, counted from when each request was to leave: what a user sees who does not wait for others.
"""

from contextlib import ExitStack
from typing import Final

from bench.bench import Bench
from bench.figures import Spread
from bench.goals import number
from bench.load.open_run import OpenRun, run_open_loop
from bench.load.schedule import Stage
from bench.measure import measure, next_seed, said, warm_up
from bench.peers.system import System
from bench.peers.tally import Tally
from bench.questions.question import Question
from bench.questions.side_by_side import PEERS
from bench.report import Found, Section
from bench.settings import Settings
from bench.workloads import POST

_NAMES: Final = ("latency",)
_CONNECTIONS: Final = 256
_SHARE: Final = 0.5
_HEADER: Final = (
    *("system", "top rate/s", "rate/s", "p50 ms", "p99 ms", "min … max", "p99.9 ms"),
    *("not answered well", "generator late, p99 ms", "others"),
)


def _systems(settings: Settings) -> dict[str, type[System]]:
    peers = {name: PEERS[name] for name in settings.peers if PEERS[name].counts}
    return {Tally.name: Tally, **peers}


def _cost_s(settings: Settings) -> float:
    if settings.only.isdisjoint(_NAMES):
        return 0.0
    return len(_systems(settings)) * (1 + settings.rounds) * settings.seconds


def _ask(bench: Bench) -> Found:
    settings = bench.settings
    section = Section(f"Latency of a POST at {_SHARE:.0%} of the top rate", _HEADER)
    section.notes.append(
        f"Top rate: {POST}, a closed loop. The fixed rate comes over {_CONNECTIONS} connections; a time counts from "
        "when the request was to leave. Where the generator itself was late, other work had its core."
    )
    found = Found(sections=[section])
    with ExitStack() as stack:
        systems = {name: stack.enter_context(kind(bench.place(name))) for name, kind in _systems(settings).items()}
        hour = bench.new_hour()
        tops = {name: top_rate(bench, system, hour) for name, system in systems.items()}
        runs: dict[str, list[OpenRun]] = {name: [] for name in systems}
        for _ in range(settings.rounds):
            for name, system in systems.items():
                stage = Stage(max(1.0, _SHARE * tops[name]), settings.seconds)
                run = run_open_loop(system, [stage], hour=hour, seed=next_seed(), connections=_CONNECTIONS)
                runs[name].append(run)
                line = f"{_SHARE:.0%} of the top rate: {system.title} p99 {run.outcomes[0].p99_ms:.2f} ms"
                bench.progress.ran(settings.seconds, line)
    section.rows += [_row(systems[name].title, tops[name], of) for name, of in runs.items()]
    found.measured["latency/p99"] = Spread.of([run.outcomes[0].p99_ms for run in runs[Tally.name]])
    return found


def top_rate(bench: Bench, system: System, hour: int, *, connections: int = POST.connections) -> float:
    """Return how many POSTs a second a system answers in a closed loop."""
    workload = POST.at(connections)
    warm_up(system, workload, hour=hour)
    found = measure(system, workload, hour=hour, seconds=bench.settings.seconds)
    bench.progress.ran(bench.settings.seconds, f"top rate: {system.title} {said(found)}")
    return found.per_s


def _row(title: str, top: float, runs: list[OpenRun]) -> list[str]:
    stages = [run.outcomes[0] for run in runs]
    columns = zip(*((one.p50_ms, one.p99_ms, one.p999_ms, one.lag_p99_ms) for one in stages), strict=True)
    p50, p99, p999, late = (Spread.of(column) for column in columns)
    bad = sum(one.due - one.good for one in stages)
    return [
        *(title, f"{top:,.0f}", f"{_SHARE * top:,.0f}", number(p50.median), number(p99.median)),
        *(f"{number(p99.low)} … {number(p99.high)}", number(p999.median), str(bad), number(late.median)),
        f"{Spread.of([run.others for run in runs]).median:.0%}",
    ]


LATENCY: Final = Question(_NAMES, _cost_s, _ask)
