"""One run of a workload on a system, and several of them turn about."""

import itertools
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from bench import procfs
from bench.counts import complaint, together
from bench.errors import WrongCounts
from bench.figures import Figures, by_system
from bench.load.wrk import Load, run_wrk
from bench.peers.system import System
from bench.progress import Progress
from bench.workloads import POST_KNOWN, Workload

WARM_UP_S: Final = 1.0
SETTLE_S: Final = 0.2  # What was under way when wrk left is through by then.

_seeds = itertools.count(1)


def next_seed() -> int:
    """Return a number that no other run of this process has; new users are named after it."""
    return next(_seeds)


class Watch:
    """Watches the CPU of a system, and of its core, from when it is made."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._began = self._now()

    def end(self) -> tuple[float, float]:
        """Return the CPU seconds that the system took, and the share of its core that all others took."""
        time_s, cpu_s, busy_s = (now - then for now, then in zip(self._now(), self._began, strict=True))
        return cpu_s, max(0.0, busy_s - cpu_s) / time_s

    def _now(self) -> tuple[float, float, float]:
        return time.monotonic(), self._system.processes.cpu_s(), procfs.busy_s(self._system.place.core)


def measure(system: System, workload: Workload, *, hour: int, seconds: float) -> Figures:
    """Let wrk work, and hold what the system counts afterwards against what it acknowledged.

    Raises:
        WrongCounts: They do not fit.
        LoadFailed, ProcessEnded: There is nothing to tell.
    """
    hours = workload.hours(hour)
    before = together(system.read(hours)) if system.counts else None
    watch = Watch(system)
    load = run_wrk(system.address, workload, hour=hour, seconds=seconds, seed=next_seed())
    cpu_s, others = watch.end()
    system.processes.check()
    if before is not None and load.failure is None:
        time.sleep(SETTLE_S)
        wrong = complaint(
            before,
            together(system.read(hours)),
            acknowledged=max(0, load.sent_posts - (load.sent - load.answered)),
            sent=load.sent_posts,
            users_are_new=workload.users == 0,
        )
        if wrong:
            raise WrongCounts(system.title, wrong)
    return figures_of(load, cpu_s, others)


def figures_of(load: Load, cpu_s: float, others: float) -> Figures:
    """Put together what wrk saw, what the system took for it, and what others took. Pure."""
    answered = max(1, load.answered)
    return Figures(
        per_s=load.answered / load.seconds,
        cpu_us=cpu_s * 1e6 / answered,
        p50_ms=load.p50_us / 1e3,
        p99_ms=load.p99_us / 1e3,
        p999_ms=load.p999_us / 1e3,
        others=others,
        failure=load.failure,
    )


class Case(NamedTuple):
    """Something that has its turn: a workload on a system, and which hour is the current one."""

    system: System
    workload: Workload
    hour: int


def turn_about(
    cases: Mapping[str, Case], *, rounds: int, seconds: float, progress: Progress
) -> dict[str, list[Figures]]:
    """Measure each case once a round, A B A B; a short run before that is not counted.

    Returns:
        Name of a case -> one entry for each round.
    """
    for case in cases.values():
        warm_up(case.system, case.workload, hour=case.hour)
    results: list[dict[str, Figures]] = []
    for number in range(1, rounds + 1):
        results.append({})
        for name, (system, workload, hour) in cases.items():
            found = measure(system, workload, hour=hour, seconds=seconds)
            results[-1][name] = found
            progress.ran(seconds, f"{name}: {workload}, round {number}: {said(found)}")
    return by_system(results)


def warm_up(system: System, workload: Workload, *, hour: int) -> None:
    """Fill the current hour with some users, then let the workload run for a moment."""
    for one in (POST_KNOWN, workload):
        run_wrk(system.address, one, hour=hour, seconds=WARM_UP_S, seed=next_seed())
    time.sleep(SETTLE_S)


def said(found: Figures) -> str:
    """Say the figures of one run in a few words. Pure."""
    if found.failure:
        return f"VOID: {found.failure}"
    return f"{found.per_s:,.0f}/s, {found.cpu_us:.1f} us CPU, p99 {found.p99_ms:.2f} ms, others took {found.others:.0%}"
