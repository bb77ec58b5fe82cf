"""How an import goes, on stderr: a bar on a terminal, now and then a line elsewhere; and the rows that failed."""

from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from tally.command.importer.sending import Outcome
from tally.command.streams import STDERR, give_up

_ROWS_PER_LINE: Final = 50_000  # Where the size of the input is not known.


class Reporter:
    """Shows the progress of one import; a context manager."""

    def __init__(self, console: Console, size: int | None) -> None:
        """Take the stderr to write to, and how many bytes there are to read, if that is known."""
        self.failed = ""
        """Why not all could be written; empty while it could."""
        self._console = console
        self._size = size
        self._steps = 0
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._bar = Progress(*columns, console=console, transient=True)
            self._task = self._bar.add_task("", total=size)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def complain(self, line: int, reason: str) -> None:
        """Tell of one row that was not counted, or may not have been."""
        self.say(f"line {line}: {reason}")

    def reading(self, position: int) -> None:
        """Show on a terminal how far the first reading is, in which nothing is sent; elsewhere it is too short."""
        if self._bar:
            self._bar.update(self._task, completed=position, description="reading")

    def advance(self, position: int, outcome: Outcome) -> None:
        """Show how far it is: on a terminal always, elsewhere every 10 % or 50,000 rows, but not at the very end."""
        others = f"{outcome.refused:,} refused, {outcome.sent_again:,} being sent again"
        if self._bar:
            self._bar.update(self._task, completed=position, description=f"{outcome.settled:,} rows, {others}")
            return
        steps = position * 10 // self._size if self._size else outcome.settled // _ROWS_PER_LINE
        # What was read is sent a little later. The end is left to the summary.
        if steps > self._steps and outcome.counted and not (self._size and position >= self._size):
            self._steps = steps
            share = f" ({steps * 10} %)" if self._size else ""
            self.say(f"imported {outcome.counted:,}{share}, {others}")

    def say(self, text: str) -> None:
        """Write a line; one that can't be written stops nothing, but is remembered."""
        try:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        except OSError as exc:
            self.failed = exc.strerror or str(exc)
            give_up(STDERR)
