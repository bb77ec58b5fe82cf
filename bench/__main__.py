"""``python -m bench``: runs benchmarks, prints what they found, and writes it down."""

import os
import shlex
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import click

from bench import machine, plot, report
from bench.bench import Bench
from bench.errors import BenchError
from bench.needs import check_programs, prepare_environment
from bench.progress import Progress
from bench.questions.big_hour import BIG_HOUR
from bench.questions.bulk import BULK
from bench.questions.history import HISTORY
from bench.questions.latency import LATENCY
from bench.questions.overload import OVERLOAD
from bench.questions.side_by_side import PEERS, SIDE_BY_SIDE
from bench.questions.variants import VARIANTS
from bench.report import About, Found
from bench.settings import BIG_HOUR_USERS, Settings

_QUESTIONS: Final = (SIDE_BY_SIDE, VARIANTS, LATENCY, OVERLOAD, BULK, HISTORY, BIG_HOUR)
_NAMES: Final = tuple(name for question in _QUESTIONS for name in question.names)
# What no goal asks for, or what takes long.
_ONLY_WITH_ALL: Final = frozenset({"post-known", "gateways", "big-hour"})
_RESULTS: Final = Path(__file__).with_name("results")


class _Names(click.ParamType[tuple[str, ...]]):
    """Some of a set of names, with commas between them."""

    name = "names"

    def __init__(self, known: tuple[str, ...]) -> None:
        self._known = known

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        names = tuple(name for name in str(value).split(",") if name)
        for name in names:
            if name not in self._known:
                self.fail(f"{name} is not one of {', '.join(self._known)}", param, ctx)
        return names


class _Numbers(click.ParamType[tuple[int, ...]]):
    """Numbers of connections, with commas between them."""

    name = "numbers"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        try:
            numbers = tuple(int(number) for number in str(value).split(","))
        except ValueError:
            self.fail(f"{value} is not a list of whole numbers", param, ctx)
        if min(numbers) < 1 or max(numbers) > 10_000:
            self.fail("a number of connections is 1 to 10000", param, ctx)
        return numbers


@click.command(context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]})
@click.option("--all", "everything", is_flag=True, help="Measure everything, not only what the goals' table needs.")
@click.option("--only", type=_Names(_NAMES), metavar="NAME,...", help=f"Measure only these: {', '.join(_NAMES)}.")
@click.option("--peers", type=_Names(tuple(PEERS)), metavar="NAME,...", help=f"Only beside these: {', '.join(PEERS)}.")
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True, help="Turns of each system.")
@click.option("--seconds", type=click.IntRange(1, 600), default=3, show_default=True, help="Of each turn.")
@click.option("--connections", type=_Numbers(), metavar="N,...", help="Default: 64,256; with --all 16,64,256.")
@click.option("--server-core", type=int, help="Of the systems under test. Default: the last one.")
@click.option("--load-core", type=int, help="Of the load. Default: the first one.")
@click.option(
    "--big-hour-users", type=click.IntRange(1), default=BIG_HOUR_USERS, show_default=True, help="Of big-hour."
)
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the report there, as DATE.md. Default: bench/results, but nowhere with --only.",
)
def main(
    *,
    everything: bool,
    only: tuple[str, ...] | None,
    peers: tuple[str, ...] | None,
    rounds: int,
    seconds: int,
    connections: tuple[int, ...] | None,
    server_core: int | None,
    load_core: int | None,
    big_hour_users: int,
    results: Path | None,
) -> None:
    """Measure Tally beside what a user would pick instead: on one core, in one run, turn about, equally durable.

    Without options it fills the goals' table, in about ten minutes. All processes are started on free ports with data
    below build/bench, and are gone at the end. Progress goes to stderr, the report to stdout.

    \b
    What each name measures:
      post, post-known, get, mix    CPU per request, requests/s and latency beside the peers
      shards, copies, gateways      the same for a Tally with more of these
      latency                       of a POST at half of the top rate, from when it was to be sent
      overload                      what becomes of 1.5 and 3 times the top rate
      bulk                          CPU per event over gRPC, beside redis-cli --pipe
      history                       40,000 hours: memory, and a GET of any of them
      big-hour                      an hour with 10 million users: memory, and POST and GET; takes long
    Peers: nginx-redis (nginx + Lua + Redis), fastapi-redis, ceiling (nginx return 204).

    \b
    Examples:
      python -m bench --only post,get --peers nginx-redis --rounds 3 --seconds 4
      python -m bench --only mix --connections 16,64,256
      python -m bench --all

    Exit status: 0 measured, whether the goals are met or not; 1 something failed; 2 wrongly called.
    """  # noqa: D301 - \b is how click keeps lines apart.
    load, server = _cores(load_core, server_core)
    names = frozenset(only) if only else frozenset(_NAMES) - (frozenset() if everything else _ONLY_WITH_ALL)
    settings = Settings(
        only=names,
        peers=tuple(PEERS) if peers is None else peers,
        everywhere=everything or connections is not None,
        rounds=rounds,
        seconds=float(seconds),
        connections=connections or ((16, 64, 256) if everything else (64, 256)),
        server_core=server,
        load_core=load,
        big_hour_users=big_hour_users,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        check_programs()
        prepare_environment()
        _write(run(settings), results or (None if only else _RESULTS))
    except BenchError as exc:
        click.echo(f"bench: {exc}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("bench: interrupted; every process has been ended", err=True)
        sys.exit(130)


def run(settings: Settings) -> Found:
    """Ask all that was picked."""
    os.sched_setaffinity(0, {settings.load_core})
    found = Found()
    with Bench(settings, Progress(sum(question.cost_s(settings) for question in _QUESTIONS))) as bench:
        for question in _QUESTIONS:
            if question.is_asked(settings):
                found.add(question.ask(bench))
    return found


def _cores(load_core: int | None, server_core: int | None) -> tuple[int, int]:
    """Return the core of the load and that of the servers."""
    cores = sorted(os.sched_getaffinity(0))
    load, server = (cores[0] if load_core is None else load_core), (cores[-1] if server_core is None else server_core)
    if load == server or not {load, server} <= set(cores):
        raise click.UsageError(f"load and servers need a core each; there are {cores}")
    return load, server


def _write(found: Found, directory: Path | None) -> None:
    """Print the report, and write it down with its plot if there is a directory."""
    now = datetime.now(UTC)
    name = f"{now:%Y-%m-%d}"
    about = About(
        date=f"{now:%Y-%m-%d %H:%M} UTC",
        commit=machine.commit(),
        machine=machine.machine(),
        versions=machine.versions(),
        command=shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        plot=f"{name}.svg" if directory and found.bars else None,
    )
    text = report.render(about, found)
    click.echo(text)
    if directory is None:
        return
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.md").write_text(text)
    if about.plot:
        (directory / about.plot).write_text(plot.bars(found.bars, "us"))
    click.echo(f"written to {directory / name}.md", err=True)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main(prog_name="python -m bench")
