"""``tally import``: events from a file, through a gateway."""

import asyncio
import os
import signal
import stat
import time
from contextlib import closing
from typing import Final

import click
import uvloop
from rich.console import Console
from yarl import URL

from tally.command.importer.door import Halt
from tally.command.importer.progress import Reporter
from tally.command.importer.rows import BadHeader, Format
from tally.command.importer.sending import Outcome, send_all
from tally.command.importer.source import read_rows
from tally.command.streams import StreamFailed, check_open, say

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
    if url.path not in ("", "/"):
        raise click.BadParameter(f"{value!r} has a path; say only where the gateway is: {url.origin()}")
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

    No event is sent twice. What is not counted is told on stderr with its line number: "line 17: ..." was refused,
    "line 17: not acknowledged: ..." is unknown: it may have been counted or not. A gateway that takes no connections
    is waited for, up to 30 s. At a gateway that does not come back, at Ctrl-C and at SIGTERM it stops, and says from
    which line on nothing was sent; a line before that says "not sent" if it was not.

    \b
    Examples:
      tally import events.csv.gz
      zcat events-*.ndjson.gz | tally import - --format ndjson --to http://gateway:8080

    Exit status: 0 all rows counted, 1 some not, 2 wrongly called or no such columns, 130 Ctrl-C, 143 SIGTERM.
    """  # noqa: D301 - \b is how click keeps lines apart.
    if file == "-":
        check_open("stdin")
    try:
        source = InputFile(file)
    except OSError as exc:
        raise click.UsageError(f"can't read {file}: {exc.strerror}") from exc
    began = time.monotonic()
    with closing(source), Reporter(Console(stderr=True), source.size) as reporter:
        try:
            outcome, asked = uvloop.run(_until_asked(source, Format(form), to, connections, reporter))
        except BadHeader as exc:
            raise click.UsageError(f"can't read {file}: {exc}") from exc
    said = summary(outcome, time.monotonic() - began)
    try:
        say(said)
    except StreamFailed:
        click.echo(said, err=True)  # Better there than nowhere.
        raise
    if reporter.failed:
        raise StreamFailed("stderr", reporter.failed)
    raise SystemExit(exit_status(outcome, asked))


async def _until_asked(
    source: InputFile, form: Format, to: str, connections: int, reporter: Reporter
) -> tuple[Outcome, signal.Signals | None]:
    """Import until the end, or until a signal, which is returned."""
    halt, asked = Halt(), list[signal.Signals]()

    def ask(what: signal.Signals) -> None:
        asked.append(what)
        halt.set(what.name)

    for what in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(what, ask, what)
    outcome = await send_all(read_rows(source.descriptor, form), to, connections, reporter, halt)
    return outcome, asked[0] if asked else None


def exit_status(outcome: Outcome, asked: signal.Signals | None) -> int:
    """Return what tells the caller how it went; after a signal as shells do it. Pure."""
    if asked is not None:
        return 128 + asked
    return 1 if outcome.refused or outcome.unknown or outcome.halted else 0


def summary(outcome: Outcome, took_s: float) -> str:
    """Say what came of an import. Pure."""
    speed = outcome.counted / took_s if took_s else 0.0
    numbers = f"{outcome.counted:,} counted, {outcome.refused:,} refused, {outcome.unknown:,} unknown"
    said = f"{numbers} in {took_s:.1f} s ({speed:,.0f} events/s)"
    if not outcome.halted:
        return said
    if outcome.unsent_from is None:
        return f"{said}\nstopped ({outcome.halted}), but all was sent"
    skipped = f", and {outcome.skipped:,} not of the lines before it" if outcome.skipped else ""
    return f"{said}\nstopped ({outcome.halted}): nothing was sent from line {outcome.unsent_from} on{skipped}"
