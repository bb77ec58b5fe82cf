"""Tables as text. Pure."""

from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tally.printable import printable

_WIDTH: Final = 10_000  # Long paths are not cut, so that they can be copied; programs read -o json.


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return aligned columns, without a line feed at the end."""
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        drawn.add_column(heading, no_wrap=True)
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))  # Text: a name may hold what is markup elsewhere.
    page = StringIO()
    Console(file=page, width=_WIDTH, color_system=None).print(drawn)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())
