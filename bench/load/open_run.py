"""One run of the open loop on a system: its memory is watched, its counts are held against what it acknowledged."""

import math
import subprocess
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from bench.counts import complaint, together
from bench.errors import WrongCounts
from bench.load import open_loop
from bench.load.open_loop import Spec
from bench.load.schedule import Stage, StageOutcome
from bench.measure import Watch
from bench.peers.system import System

_WATCH_S: Final = 0.5
_SETTLE_S: Final = 0.5


class OpenRun(NamedTuple):
    """What came of it.

    Attributes:
        outcomes: Of each stage.
        memory_before_mib: Of all the system's processes.
        memory_peak_mib: The same, at its highest.
        others: How much of the servers' core other work took meanwhile, 0 to 1.
    """

    outcomes: list[StageOutcome]
    memory_before_mib: float
    memory_peak_mib: float
    others: float


def run_open_loop(
    system: System, stages: Sequence[Stage], *, hour: int, seed: int, connections: int, patience_s: float = math.inf
) -> OpenRun:
    """Send POSTs of new users at the rates of ``stages``.

    Args:
        system: Whom to ask.
        stages: One after another.
        hour: Of all events.
        seed: New users are named after it.
        connections: How many requests can be under way at a time.
        patience_s: A request that found no connection for so long is never sent.

    Raises:
        WrongCounts: An acknowledged event is not counted, or one that never left is.
        LoadFailed, ProcessEnded: There is nothing to tell.
    """
    before = together(system.read([hour]))
    memory_before = peak = system.processes.resident_mib()
    watch = Watch(system)
    host, port = system.address
    process = open_loop.start(Spec(host, port, hour, seed, connections, patience_s, list(stages)))
    lasts_s = sum(stage.seconds for stage in stages)
    try:
        end = time.monotonic() + lasts_s
        while time.monotonic() < end and process.poll() is None:
            time.sleep(_WATCH_S)
            peak = max(peak, system.processes.resident_mib())
        outcomes = open_loop.outcomes_of(process, within_s=lasts_s)
    except BaseException:
        _end(process)
        raise
    _, others = watch.end()
    system.processes.check()
    time.sleep(_SETTLE_S)
    wrong = complaint(
        before,
        together(system.read([hour])),
        acknowledged=sum(outcome.good for outcome in outcomes),
        sent=sum(outcome.due - outcome.unsent for outcome in outcomes),
        users_are_new=True,
    )
    if wrong:
        raise WrongCounts(system.title, wrong)
    return OpenRun(outcomes, memory_before, peak, others)


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
