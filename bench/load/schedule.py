"""When each request is to leave, and what came of it. Pure.

A request's time is counted from when it was to leave, whether it could leave then or not: a server that stalls delays
all requests that come meanwhile, and each of them is told (no coordinated omission).
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bench.figures import percentile

GOOD: Final = "good"
REFUSED: Final = "refused"
FAILED: Final = "failed"


class Stage(NamedTuple):
    """A rate that is kept for a while."""

    per_s: float
    seconds: float


class Second(NamedTuple):
    """The requests that were to leave within one second.

    Attributes:
        due: How many there were.
        good: How many of them got what they asked for, whenever that was.
        p99_ms: Of these, from when they were to leave.
    """

    due: int
    good: int
    p99_ms: float


class StageOutcome(NamedTuple):
    """What came of a stage.

    Attributes:
        due: Requests that were to leave.
        unsent: Those that never did, because too many waited in the generator itself.
        good, refused, failed: How the others ended: as wished, with a 503, or otherwise, such as not at all.
        goodput_per_s: Good answers that came while the stage lasted, a second.
        p50_ms, p99_ms, p999_ms: Of good answers.
        refusal_p99_ms: Of refusals.
        refusal_sent_p99_ms: Of refusals, but from when the request left. Much less, if there were too few connections.
        lag_p99_ms: From when a request was to leave to when it left. Large, if there was no connection for it.
        seconds: The same for each second.
    """

    due: int
    unsent: int
    good: int
    refused: int
    failed: int
    goodput_per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    refusal_p99_ms: float
    refusal_sent_p99_ms: float
    lag_p99_ms: float
    seconds: list[Second]


@dataclass
class _Notes:
    """What was noted about one stage; times in seconds since the first request."""

    due: int = 0
    unsent: int = 0
    in_time: int = 0
    took: dict[str, "array[float]"] = field(
        default_factory=lambda: {how: array("d") for how in (GOOD, REFUSED, FAILED)}
    )
    refusals_sent: "array[float]" = field(default_factory=lambda: array("d"))
    lags: "array[float]" = field(default_factory=lambda: array("d"))
    due_in: dict[int, int] = field(default_factory=dict)
    good_in: dict[int, "array[float]"] = field(default_factory=dict)


class Schedule:
    """Stages one after another, each with its requests evenly spread."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        assert stages
        assert all(stage.per_s > 0 and stage.seconds > 0 for stage in stages)
        self._stages = stages
        self._ends = [sum(stage.seconds for stage in stages[: number + 1]) for number in range(len(stages))]
        self._notes = [_Notes() for _ in stages]
        self._stage = 0
        self._next_s = 0.0

    @property
    def next_s(self) -> float | None:
        """When the next request is to leave, in seconds since the first; None after the last."""
        return self._next_s if self._stage < len(self._stages) else None

    def take(self) -> tuple[int, float]:
        """Return stage and time of the next request, and go on to the one after it."""
        stage, due = self._stage, self._next_s
        notes = self._notes[stage]
        notes.due += 1
        notes.due_in[int(due)] = notes.due_in.get(int(due), 0) + 1
        self._next_s += 1 / self._stages[stage].per_s
        if self._next_s >= self._ends[stage]:
            self._next_s = self._ends[stage]
            self._stage += 1
        return stage, due

    def unsent(self, stage: int) -> None:
        """Note that a request never left."""
        self._notes[stage].unsent += 1

    def left(self, stage: int, due: float, now: float) -> None:
        """Note that a request left."""
        self._notes[stage].lags.append(now - due)

    def ended(self, stage: int, due: float, sent: float, now: float, how: str) -> None:
        """Note how a request that left at ``sent`` ended."""
        notes = self._notes[stage]
        if how == REFUSED:
            notes.refusals_sent.append(now - sent)
        notes.took[how].append(now - due)
        if how == GOOD:
            notes.good_in.setdefault(int(due), array("d")).append(now - due)
            for number, end in enumerate(self._ends):
                if now < end:
                    self._notes[number].in_time += 1
                    break

    def outcomes(self) -> list[StageOutcome]:
        """Return what came of each stage."""
        return [_outcome(notes, stage) for notes, stage in zip(self._notes, self._stages, strict=True)]


def _outcome(notes: _Notes, stage: Stage) -> StageOutcome:
    good, refused = sorted(notes.took[GOOD]), sorted(notes.took[REFUSED])
    seconds = []
    for second, due in sorted(notes.due_in.items()):
        took = sorted(notes.good_in.get(second, ()))
        seconds.append(Second(due, len(took), 1e3 * percentile(took, 0.99)))
    return StageOutcome(
        due=notes.due,
        unsent=notes.unsent,
        good=len(good),
        refused=len(refused),
        failed=len(notes.took[FAILED]),
        goodput_per_s=notes.in_time / stage.seconds,
        p50_ms=1e3 * percentile(good, 0.5),
        p99_ms=1e3 * percentile(good, 0.99),
        p999_ms=1e3 * percentile(good, 0.999),
        refusal_p99_ms=1e3 * percentile(refused, 0.99),
        refusal_sent_p99_ms=1e3 * percentile(sorted(notes.refusals_sent), 0.99),
        lag_p99_ms=1e3 * percentile(sorted(notes.lags), 0.99),
        seconds=seconds,
    )


def recovered_after_s(seconds: Sequence[Second], *, good_share: float, p99_ms: float) -> float | None:
    """Return after how many seconds all is well for good; None if it is not at the end.

    Args:
        seconds: One after another, from the end of what disturbed.
        good_share: All is well when at least so many requests get what they ask for, 0 to 1,
        p99_ms: and within this time.
    """
    bad = [number for number, one in enumerate(seconds) if one.good < good_share * one.due or one.p99_ms > p99_ms]
    if bad and bad[-1] == len(seconds) - 1:
        return None
    return float(bad[-1] + 1) if bad else 0.0
