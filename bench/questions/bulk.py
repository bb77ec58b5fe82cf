"""How much CPU does an event cost when a service has many of them at once?"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Final

from bench.bench import Bench
from bench.counts import Counts
from bench.errors import WrongCounts
from bench.figures import Figures, cpu_ratio, medians
from bench.goals import number
from bench.load.bulk import EVENTS_A_CALL, run_bulk
from bench.measure import Watch, next_seed
from bench.peers.redis_alone import RedisAlone, write_commands
from bench.peers.system import System
from bench.peers.tally import Tally
from bench.questions.question import Question
from bench.report import Found, Section, ratio_text
from bench.settings import Settings

_NAMES: Final = ("bulk",)
_EVENTS: Final = 100_000
_WITHIN_S: Final = 120.0
_NOMINAL_S: Final = 5.0  # Of one turn; only for the progress.
_HEADER: Final = ("system", "events/s", "CPU us/event", "CPU, Tally : it (min … max)")


def _cost_s(settings: Settings) -> float:
    return 0.0 if settings.only.isdisjoint(_NAMES) else 2 * settings.rounds * _NOMINAL_S


def _ask(bench: Bench) -> Found:
    with ExitStack() as stack:
        tally = stack.enter_context(Tally(bench.place("tally")))
        redis = stack.enter_context(RedisAlone(bench.place("redis")))
        commands = redis.place.directory / "commands"
        runs: dict[str, list[Figures]] = {tally.title: [], redis.title: []}
        for _ in range(bench.settings.rounds):
            hour, seed = bench.new_hour(), next_seed()
            write_commands(commands, hour=hour, events=_EVENTS, seed=seed)
            runs[tally.title].append(measured(tally, hour, partial(_grpc, tally, hour, seed)))
            bench.progress.ran(_NOMINAL_S, _said(tally, runs[tally.title][-1]))
            runs[redis.title].append(measured(redis, hour, lambda: redis.pipe(commands)))
            bench.progress.ran(_NOMINAL_S, _said(redis, runs[redis.title][-1]))
    return found_in(runs)


def measured(system: System, hour: int, send: Callable[[], float]) -> Figures:
    """Let ``send`` send the events, all of them of new users; it returns how many seconds that took.

    Raises:
        WrongCounts: They are not counted exactly.
    """
    watch = Watch(system)
    seconds = send()
    cpu_s, others = watch.end()
    system.processes.check()
    (counts,) = system.read([hour])
    if counts != Counts(_EVENTS, _EVENTS, 0):
        raise WrongCounts(system.title, f"{counts} after {_EVENTS} clicks of as many users")
    return Figures(_EVENTS / seconds, 1e6 * cpu_s / _EVENTS, 0.0, 0.0, 0.0, others)


def found_in(runs: dict[str, list[Figures]]) -> Found:
    """Put together what the rounds of Tally, and of what it is compared with, say. Pure."""
    section = Section("Bulk", _HEADER)
    ours, theirs = runs.values()
    ratio = cpu_ratio(ours, theirs)
    for (title, of), against in zip(runs.items(), ("", ratio_text(ratio)), strict=True):
        middle = medians(of)
        if middle:
            section.rows.append([title, f"{middle.per_s:,.0f}", number(middle.cpu_us), against])
    section.notes.append(
        f"{_EVENTS:,} clicks of as many users of one hour. Tally: {EVENTS_A_CALL} events a call of "
        "tally.v1.Analytics/Record; Redis: SADD and HINCRBY for each event."
    )
    return Found({"bulk": ratio} if ratio else {}, [section])


def _grpc(tally: Tally, hour: int, seed: int) -> float:
    return run_bulk(tally.grpc, hour=hour, events=_EVENTS, seed=seed, within_s=_WITHIN_S)


def _said(system: System, found: Figures) -> str:
    return f"bulk: {system.title} {found.per_s:,.0f} events/s, {found.cpu_us:.1f} us CPU"


BULK: Final = Question(_NAMES, _cost_s, _ask)
