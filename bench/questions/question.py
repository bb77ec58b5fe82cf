"""What a question is."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.bench import Bench
from bench.report import Found
from bench.settings import Settings


@dataclass(frozen=True)
class Question:
    """Something to measure.

    Attributes:
        names: By which ``--only`` picks it, or parts of it.
        cost_s: Seconds of measuring that it tells the progress of; 0 if nothing of it was picked.
        ask: Measures it.
    """

    names: tuple[str, ...]
    cost_s: Callable[[Settings], float]
    ask: Callable[[Bench], Found]

    def is_asked(self, settings: Settings) -> bool:
        """Whether some of it was picked."""
        return not settings.only.isdisjoint(self.names)
