"""What does a long history cost, in memory and for a GET of any of its hours?"""

from typing import Final

from bench.bench import Bench
from bench.counts import Counts
from bench.errors import WrongCounts
from bench.figures import Spread, cpu_ratio
from bench.load.bulk import run_bulk
from bench.measure import Case, next_seed, turn_about
from bench.peers.tally import Tally
from bench.questions.question import Question
from bench.report import Found, figures_row, figures_section
from bench.settings import Settings
from bench.workloads import GET, GET_PAST

_NAMES: Final = ("history",)
_EVENTS_AN_HOUR: Final = 5
_FIRST_HOURS: Final = 4_000
_FILL_S: Final = 600.0
_NOMINAL_FILL_S: Final = 20.0  # Only for the progress.
_CHECKED_EVERY: Final = 997
_CURRENT: Final = "current hour"
_OLDEST: Final = "oldest hour"
_ANY: Final = "any hour"


def _cost_s(settings: Settings) -> float:
    if settings.only.isdisjoint(_NAMES):
        return 0.0
    return _NOMINAL_FILL_S + 3 * settings.rounds * settings.seconds


def _ask(bench: Bench) -> Found:
    settings, hour = bench.settings, bench.new_hour()
    with Tally(bench.place("tally")) as tally:
        _fill(tally, newest=hour - 1, hours=_FIRST_HOURS)
        few_mib = tally.shards_resident_mib()
        _fill(tally, newest=hour - 1 - _FIRST_HOURS, hours=GET_PAST.past_hours - _FIRST_HOURS)
        many_mib = tally.shards_resident_mib()
        bench.progress.ran(_NOMINAL_FILL_S, f"history: filled, shard {few_mib:.0f}, then {many_mib:.0f} MiB")
        runs = turn_about(
            {
                _CURRENT: Case(tally, GET, hour),
                _OLDEST: Case(tally, GET, hour - GET_PAST.past_hours),
                _ANY: Case(tally, GET_PAST, hour),
            },
            rounds=settings.rounds,
            seconds=settings.seconds,
            progress=bench.progress,
        )
        read_mib = tally.shards_resident_mib()
    section = figures_section(f"{GET_PAST.past_hours:,} hours of history: GET")
    section.rows += [figures_row(name, GET.connections, figures, None) for name, figures in runs.items()]
    section.notes.append(
        f"Memory of the shard: {few_mib:.0f} MiB with {_FIRST_HOURS:,} hours of {_EVENTS_AN_HOUR} events each, "
        f"{many_mib:.0f} MiB with {GET_PAST.past_hours:,}, {read_mib:.0f} MiB after all these GETs. "
        "Readers who ask for one hour at a time share what is read; those who ask for any of them hardly do."
    )
    found = Found({"history/memory": Spread.of([max(many_mib, read_mib) - few_mib])}, [section])
    ratio = cpu_ratio(runs[_ANY], runs[_CURRENT])
    if ratio:
        found.measured["history/get"] = ratio
    return found


def _fill(tally: Tally, *, newest: int, hours: int) -> None:
    """Give so many hours some events each, and look at some of them.

    Raises:
        WrongCounts: One has not got what it should.
    """
    run_bulk(tally.grpc, hour=newest, hours=hours, events=hours * _EVENTS_AN_HOUR, seed=next_seed(), within_s=_FILL_S)
    looked_at = list(range(newest - hours + 1, newest + 1, _CHECKED_EVERY))
    for hour, counts in zip(looked_at, tally.read(looked_at), strict=True):
        if counts != Counts(_EVENTS_AN_HOUR, _EVENTS_AN_HOUR, 0):
            raise WrongCounts(tally.title, f"hour {hour}: {counts} after {_EVENTS_AN_HOUR} clicks of as many users")


HISTORY: Final = Question(_NAMES, _cost_s, _ask)
