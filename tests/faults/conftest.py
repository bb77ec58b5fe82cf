"""What fault tests share: a table of what each fault cost, shown when all have ended."""

from typing import Final

import pytest

from tally.command.tables import table
from tests.faults.probe import HEADINGS, Row, cells

_ROWS: Final = pytest.StashKey[list[Row]]()


@pytest.fixture
def rows(pytestconfig: pytest.Config) -> list[Row]:
    """What each fault cost so far; a test adds its row before it holds it against the limits."""
    return pytestconfig.stash.setdefault(_ROWS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show all rows."""
    rows = config.stash.get(_ROWS, [])
    if rows:
        terminalreporter.section("what the faults cost")
        terminalreporter.write_line(table(HEADINGS, [cells(row) for row in rows]))
