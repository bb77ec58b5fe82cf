"""How an import goes, on stderr: a bar on a terminal, now and then a line elsewhere; and the rows that failed."""

from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from tally.command.sending import Outcome

COMPLAINTS_MAX: Final = 100
_ROWS_PER_LINE: Final = 50_000  # Where the size of the input is not known.


class Reporter:
    """Shows the progress of one import; a context manager."""

    def __init__(self, console: Console, size: int | None) -> None:
        """Take the stderr to write to, and how many bytes there are to read, if that is known."""
        self._console = console
        self._size = size
        self._complaints = 0
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
        if self._complaints > COMPLAINTS_MAX:
            self._write(f"... and {self._complaints - COMPLAINTS_MAX:,} more")

    def complain(self, line: int, reason: str) -> None:
        """Tell of one row that failed; only of the first hundred."""
        self._complaints += 1
        if self._complaints <= COMPLAINTS_MAX:
            self._write(f"line {line}: {reason}")

    def advance(self, position: int, outcome: Outcome) -> None:
        """Show how far it is: on a terminal always, elsewhere every 10 % or 50,000 rows."""
        done = outcome.counted + outcome.failed
        if self._bar:
            text = f"{done:,} rows, {outcome.failed:,} failed"
            self._bar.update(self._task, completed=position, description=text)
            return
        steps = position * 10 // self._size if self._size else done // _ROWS_PER_LINE
        if steps > self._steps:
            self._steps = steps
            share = f" ({steps * 10} %)" if self._size else ""
            self._write(f"imported {outcome.counted:,}{share}, {outcome.failed:,} failed")

    def _write(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
