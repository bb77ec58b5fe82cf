"""``tally import``: events from a file, through a gateway."""

import os
import stat
import time
from contextlib import closing
from typing import Final

import click
import uvloop
from rich.console import Console
from yarl import URL

from tally.command.progress import Reporter
from tally.command.rows import BadHeader, Format
from tally.command.sending import Outcome, send_all
from tally.command.source import read_rows

CONNECTIONS_MAX: Final = 1024
_STDIN: Final = 0


class InputFile:
    """What is read: a file descriptor, closed at the end unless it is stdin."""

    def __init__(self, name: str) -> None:
        self.descriptor = _STDIN if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC)

    @property
    def size(self) -> int | None:
        """How many bytes there are to read, if that is known; a pipe does not tell."""
        status = os.fstat(self.descriptor)
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def close(self) -> None:
        """Close it."""
        if self.descriptor != _STDIN:
            os.close(self.descriptor)


def _check_url(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        url = URL(value)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc
    if url.scheme not in ("http", "https") or not url.host or url.query_string or url.fragment:
        raise click.BadParameter(f"{value!r} is no address of a gateway, such as http://127.0.0.1:8080")
    return value.rstrip("/")


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True))
@click.option(
    "--to",
    envvar="TALLY_GATEWAY",
    show_envvar=True,
    default="http://127.0.0.1:8080",
    show_default=True,
    callback=_check_url,
    metavar="URL",
    help="The gateway that takes the events.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice([form.value for form in Format]),
    default=Format.AUTO.value,
    show_default=True,
    help="How the rows are written; auto looks at the first line.",
)
@click.option(
    "--connections",
    type=click.IntRange(1, CONNECTIONS_MAX),
    default=64,
    show_default=True,
    help="How many events are on their way at once.",
)
def import_file(file: str, to: str, form: str, connections: int) -> None:
    """Send the events of FILE, or of stdin with "-", through a gateway.

    FILE is CSV whose first line names the columns timestamp_ms, user and kind, in any order, among others if you
    like; or NDJSON, an object a line with these three fields. gzip is recognised by itself. kind is click or
    impression. One row is one line.

    Each event is sent once and never again. What is not counted is told on stderr with its line number: "line 17: ..."
    was refused, "line 17: not acknowledged: ..." may have been counted or not.

    \b
    Examples:
      tally import events.csv.gz
      zcat events-*.ndjson.gz | tally import - --format ndjson --to http://gateway:8080

    Exit status: 0 all rows counted, 1 some not, 2 wrongly called or no such columns.
    """  # noqa: D301 - \b is how click keeps lines apart.
    try:
        source = InputFile(file)
    except OSError as exc:
        raise click.UsageError(f"can't read {file}: {exc.strerror}") from exc
    began = time.monotonic()
    with closing(source), Reporter(Console(stderr=True), source.size) as reporter:
        batches = read_rows(source.descriptor, Format(form))
        try:
            outcome = uvloop.run(send_all(batches, to, connections, reporter))
        except BadHeader as exc:
            raise click.UsageError(f"can't read {file}: {exc}") from exc
    click.echo(summary(outcome, time.monotonic() - began))
    raise SystemExit(1 if outcome.failed else 0)


def summary(outcome: Outcome, took_s: float) -> str:
    """Say on one line what came of an import. Pure."""
    speed = outcome.counted / took_s if took_s else 0.0
    return f"{outcome.counted:,} counted, {outcome.failed:,} failed in {took_s:.1f} s ({speed:,.0f} events/s)"
