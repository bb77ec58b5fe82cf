"""``tally import``: events from a file, through a gateway."""

import asyncio
import signal
import time
from contextlib import closing
from typing import Final

import click
import uvloop
from yarl import URL

from tally.command.console import stderr_console
from tally.command.importer.halt import Halt
from tally.command.importer.keys import PREFIX_CHARACTERS_MAX, is_prefix
from tally.command.importer.progress import Reporter
from tally.command.importer.retrying import GIVE_UP_AFTER_S, GIVE_UP_AFTER_S_MAX, Patience
from tally.command.importer.rows import BadHeader, Format
from tally.command.importer.sending import Outcome, Sending
from tally.command.importer.source import Source
from tally.command.importer.summary import exit_status, summary
from tally.command.streams import StreamFailed, check_open, say

CONNECTIONS_MAX: Final = 1024


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


def _check_prefix(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not is_prefix(value):
        raise click.BadParameter(f"must be 1 to {PREFIX_CHARACTERS_MAX} printable ASCII characters without spaces")
    return value


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
@click.option(
    "--key-prefix",
    callback=_check_prefix,
    metavar="TEXT",
    help="What the lines are known by, instead of the file's digest. Under another one, a file is counted again.",
)
@click.option(
    "--give-up-after",
    "give_up_after_s",
    type=click.IntRange(1, GIVE_UP_AFTER_S_MAX),
    default=GIVE_UP_AFTER_S,
    show_default=True,
    metavar="SECONDS",
    help="Stop when for so long no event at all was answered.",
)
def import_file(
    file: str, *, to: str, form: str, connections: int, key_prefix: str | None, give_up_after_s: int
) -> None:
    """Send the events of FILE, or of stdin with "-", through a gateway.

    FILE is CSV whose first line names the columns timestamp_ms, user and kind, in any order, among others if you
    like; or NDJSON, an object a line with these three fields. gzip is recognised by itself. kind is click or
    impression. A row is a line; in CSV, a quoted field may have line feeds in it, and the row goes on.

    Each line is counted once: it is sent with an Idempotency-Key, and again until it is counted or refused, whatever
    happens to the gateway or the shards meanwhile. What was refused is told on stderr with the number of the line
    where the row begins.

    The key is the file's digest and the line number. So the same file can be imported again within 24 hours, after
    Ctrl-C for example: what is counted already is not counted twice. Later, or with one byte changed, it is another
    file. Of stdin or a pipe nothing is known; name it with --key-prefix to import it again.

    When no line is answered for a long time, at Ctrl-C and at SIGTERM it stops, and says from which line on nothing
    was sent. "line 17: not acknowledged: ..." was sent, and is counted or not.

    \b
    Examples:
      tally import events.csv.gz
      zcat events-*.ndjson.gz | tally import - --key-prefix july --to http://gateway:8080

    Exit status: 0 all rows counted, 1 some not, 2 wrongly called or no such columns, 130 Ctrl-C, 143 SIGTERM.
    """  # noqa: D301 - \b is how click keeps lines apart.
    if file == "-":
        check_open("stdin")
    try:
        source = Source(file, Format(form), key_prefix)
    except OSError as exc:
        raise click.UsageError(f"can't read {file}: {exc.strerror}") from exc
    began = time.monotonic()
    with closing(source), Reporter(stderr_console(), source.size) as reporter:
        try:
            outcome, asked = uvloop.run(_until_asked(source, to, reporter, connections, give_up_after_s))
        except BadHeader as exc:
            raise click.UsageError(f"can't read {file}: {exc}") from exc
    again = source.again()
    said = summary(outcome, again, time.monotonic() - began)
    try:
        say(said)
    except StreamFailed:
        click.echo(said, err=True)  # Better there than nowhere.
        raise
    if reporter.failed:
        raise StreamFailed("stderr", reporter.failed)
    raise SystemExit(exit_status(outcome, again, asked))


async def _until_asked(
    source: Source, to: str, reporter: Reporter, connections: int, give_up_after_s: int
) -> tuple[Outcome, signal.Signals | None]:
    """Import until the end, or until a signal, which is returned."""
    halt, asked = Halt(), list[signal.Signals]()

    def ask(what: signal.Signals) -> None:
        asked.append(what)
        halt.set(what.name)

    for what in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(what, ask, what)
    patience = Patience(give_up_after_s)
    sending = Sending(to, source.key, reporter, connections=connections, patience=patience, halt=halt)
    return await sending.run(source.batches(reporter.reading)), asked[0] if asked else None
