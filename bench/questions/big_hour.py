"""What do very many distinct users of one hour cost, in memory and for each request?"""

from typing import Final

from bench.bench import Bench
from bench.counts import Counts
from bench.errors import WrongCounts
from bench.figures import Figures, Spread, cpu_ratio
from bench.load.bulk import run_bulk
from bench.measure import Case, next_seed, turn_about
from bench.peers.tally import Tally
from bench.questions.question import Question
from bench.report import Found, figures_row, figures_section
from bench.settings import BIG_HOUR_USERS, Settings
from bench.workloads import GET, POST, Workload

_NAMES: Final = ("big-hour",)
_BIG: Final = "big hour"
_EMPTY: Final = "empty hour"
_USERS_A_STEP: Final = 250_000
_STEP_S: Final = 300.0
_NOMINAL_PER_S: Final = 25_000  # Users that are filled in a second; only for the progress.
_MB_OF_MIB: Final = 2**20 / 1e6


def _cost_s(settings: Settings) -> float:
    if settings.only.isdisjoint(_NAMES):
        return 0.0
    return settings.big_hour_users / _NOMINAL_PER_S + 2 * 2 * settings.rounds * settings.seconds


def _ask(bench: Bench) -> Found:
    users, hour = bench.settings.big_hour_users, bench.new_hour()
    with Tally(bench.place("tally")) as tally:
        empty_mib = tally.shards_resident_mib()
        fill(bench, tally, hour, users)
        full_mib = tally.shards_resident_mib()
        runs = {workload.name: _compared(bench, tally, workload, hour) for workload in (GET, POST)}
    section = figures_section(f"An hour with {users:,} users")
    for of in runs.values():
        for name, figures in of.items():
            section.rows.append(figures_row(name, GET.connections, figures, None))
    grown_mb = (full_mib - empty_mib) * _MB_OF_MIB
    section.notes.append(
        f"Exact: {users:,} unique users. Memory of the shard: {empty_mib:.0f} MiB empty, {full_mib:.0f} MiB with them. "
        "First GET, then POST of new users."
    )
    if users < BIG_HOUR_USERS:
        return Found(sections=[section])
    found = Found({"big-hour/memory": Spread.of([grown_mb])}, [section])
    for name, of in runs.items():
        ratio = cpu_ratio(of[_BIG], of[_EMPTY])
        if ratio:
            found.measured[f"big-hour/{name}"] = ratio
    return found


def fill(bench: Bench, tally: Tally, hour: int, users: int) -> None:
    """Give an hour so many users, and see that it has exactly these.

    Raises:
        WrongCounts: It has not.
    """
    for first in range(0, users, _USERS_A_STEP):
        events = min(_USERS_A_STEP, users - first)
        run_bulk(tally.grpc, hour=hour, events=events, seed=next_seed(), within_s=_STEP_S)
        line = f"big hour: {first + events:,} of {users:,} users, shard {tally.shards_resident_mib():.0f} MiB"
        bench.progress.ran(events / _NOMINAL_PER_S, line)
    (counts,) = tally.read([hour])
    if counts != Counts(users, users, 0):
        raise WrongCounts(tally.title, f"{counts} after {users} clicks of as many users")


def _compared(bench: Bench, tally: Tally, workload: Workload, hour: int) -> dict[str, list[Figures]]:
    cases = {_EMPTY: Case(tally, workload, bench.new_hour()), _BIG: Case(tally, workload, hour)}
    settings = bench.settings
    return turn_about(cases, rounds=settings.rounds, seconds=settings.seconds, progress=bench.progress)


BIG_HOUR: Final = Question(_NAMES, _cost_s, _ask)
