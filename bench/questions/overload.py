"""What becomes of a Tally that is asked for more than it can do, by clients that do not wait for each other?

The gateway lets fewer events wait than by default, so that a queue fills with fewer clients than a machine has ports.
"""

from collections.abc import Sequence
from typing import Final

from bench.bench import Bench
from bench.figures import Spread
from bench.goals import number
from bench.load.open_run import OpenRun, run_open_loop
from bench.load.schedule import Second, Stage, StageOutcome, recovered_after_s
from bench.measure import next_seed
from bench.peers.tally import Tally
from bench.questions.latency import top_rate
from bench.questions.question import Question
from bench.report import Found, Section
from bench.settings import Settings

_NAMES: Final = ("overload",)
_QUEUE_EVENTS: Final = 1000
_FLAGS: Final = ("--queue-events", str(_QUEUE_EVENTS), "--slot-queue-events", str(_QUEUE_EVENTS))
_CONNECTIONS: Final = 3000
_PATIENCE_S: Final = 1.0
_TOP_CONNECTIONS: Final = 256
_TIMES: Final = (1.5, 3.0)
_OVERLOAD_S: Final = 10.0
_CALM_S: Final = 4.0
_AFTER_S: Final = 12.0
_CALM_SHARE: Final = 0.5
_WELL_SHARE: Final = 0.99
_WELL_P99_MS: Final = 100.0
_HEADER: Final = (
    *("offered", "rate/s", "goodput/s", "of top rate", "good p50 ms", "good p99 ms", "503s", "503 p99 ms", "from send"),
    *("failed", "unsent", "generator late, p99 ms"),
)


def _cost_s(settings: Settings) -> float:
    if settings.only.isdisjoint(_NAMES):
        return 0.0
    return settings.seconds + sum(stage.seconds for stage in _stages(1.0))


def _stages(top: float) -> list[Stage]:
    """Calm, overload, calm, more overload, calm. Pure."""
    calm = _CALM_SHARE * top
    stages = [Stage(calm, _CALM_S)]
    for times in _TIMES:
        stages += [Stage(times * top, _OVERLOAD_S), Stage(calm, _AFTER_S)]
    return stages


def _ask(bench: Bench) -> Found:
    with Tally(bench.place("tally"), gateway_flags=_FLAGS) as tally:
        hour = bench.new_hour()
        top = top_rate(bench, tally, hour, connections=_TOP_CONNECTIONS)
        stages = _stages(top)
        run = run_open_loop(
            tally, stages, hour=hour, seed=next_seed(), connections=_CONNECTIONS, patience_s=_PATIENCE_S
        )
        bench.progress.ran(
            sum(stage.seconds for stage in stages), f"overload: goodput {_goodputs(run)} of {top:,.0f}/s"
        )
    return found_in(run, stages, top)


def found_in(run: OpenRun, stages: Sequence[Stage], top: float) -> Found:
    """Put together what a run over ``stages`` says. Pure."""
    section = Section("Overload", _HEADER)
    for stage, outcome in zip(stages, run.outcomes, strict=True):
        section.rows.append(_row(stage, outcome, top))
    over, after = run.outcomes[1], run.outcomes[2]
    recovery = recovered(after.seconds)
    again = recovered(run.outcomes[4].seconds)
    section.notes.append(
        f"Top rate: {top:,.0f} POSTs a second of {_TOP_CONNECTIONS} clients in a closed loop. {_CONNECTIONS} clients, "
        f"and who finds none of them free for {_PATIENCE_S:.0f} s gives up (unsent); "
        f"the gateway lets {_QUEUE_EVENTS} events wait. Memory of all processes: {run.memory_before_mib:.0f} MiB "
        f"before, {run.memory_peak_mib:.0f} MiB at most. As before (99 % good, p99 within {_WELL_P99_MS:.0f} ms) after "
        f"{_after(recovery)} at {_TIMES[0]:g} times, {_after(again)} at {_TIMES[1]:g} times the top rate. Others took "
        f"{run.others:.0%} of the servers' core."
    )
    grown = run.memory_peak_mib - run.memory_before_mib
    measured = {
        "overload/goodput": Spread.of([over.goodput_per_s / top]),
        "overload/memory": Spread.of([grown]),
        # What did not recover at all while it was watched took longer than that.
        "overload/recovery": Spread.of([_AFTER_S if recovery is None else recovery]),
    }
    if over.refused:
        measured["overload/refusal"] = Spread.of([over.refusal_p99_ms])
    return Found(measured, [section])


def recovered(seconds: Sequence[Second]) -> float | None:
    """Return after how many seconds of calm all was as before; None: not while it was watched. Pure."""
    return recovered_after_s(seconds, good_share=_WELL_SHARE, p99_ms=_WELL_P99_MS)


def _after(seconds: float | None) -> str:
    return f"more than {_AFTER_S:.0f} s" if seconds is None else f"{seconds:.0f} s"


def _row(stage: Stage, outcome: StageOutcome, top: float) -> list[str]:
    return [
        *(f"{stage.per_s / top:g} x for {stage.seconds:.0f} s", f"{stage.per_s:,.0f}"),
        *(f"{outcome.goodput_per_s:,.0f}", f"{outcome.goodput_per_s / top:.2f}"),
        *(number(outcome.p50_ms), number(outcome.p99_ms)),
        str(outcome.refused),
        *(number(ms) if outcome.refused else "" for ms in (outcome.refusal_p99_ms, outcome.refusal_sent_p99_ms)),
        *(str(outcome.failed), str(outcome.unsent), number(outcome.lag_p99_ms)),
    ]


def _goodputs(run: OpenRun) -> str:
    return " and ".join(f"{run.outcomes[number].goodput_per_s:,.0f}/s" for number in (1, 3))


OVERLOAD: Final = Question(_NAMES, _cost_s, _ask)
