"""``tally drain``: all copies of one shard go to others, so that it can be switched off without loss."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, NoReturn, Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from tally.cluster.etcd import Etcd, Put
from tally.cluster.keys import Keys
from tally.cluster.members import Member, Wanted
from tally.cluster.planning.progress import Drain, drain_of
from tally.cluster.state import ClusterState
from tally.command.cluster import (
    Change,
    Refused,
    Seen,
    UnknownShard,
    cluster_options,
    dry_run_option,
    find_cluster,
    look,
    make_now,
)
from tally.command.console import stderr_console
from tally.command.drain_watch import Left, Step, Watch, hindrances, joiners
from tally.command.options import Named, option
from tally.command.shards import Answers, ask_shards
from tally.command.streams import STDERR, give_up, say
from tally.errors import EtcdUnavailable

_POLL_S: Final = 1.0
_INTERRUPTED: Final = 130


@click.command()
@click.argument("shard", metavar="ID")
@cluster_options
@click.option("--wait", is_flag=True, help="Stay until it keeps nothing, and show how far it is.")
@option("--patience-s", type=click.FloatRange(min=1), default=60.0, help="With --wait: end when nothing moves so long.")
@click.option("--undo", is_flag=True, help="Make it active again; it gets its share back.")
@dry_run_option
def drain(
    *,
    shard: str,
    etcd: str | None,
    cluster: str | None,
    wait: bool,
    patience_s: float,
    undo: bool,
    dry_run: bool,
    **access: Any,
) -> None:
    """Empty shard ID: its copies go to the other active shards, while all of them keep serving.

    The wish stands in etcd and outlives this command: with or without --wait the cluster goes on until the shard
    keeps nothing. Each slot first gets its new copy, complete, then the old one is dropped: at no time is there a
    copy less than before, unless fewer shards remain than a slot has copies. It is refused for the last active shard.

    \b
    Examples:
      tally drain s3 --dry-run        how many copies would move, and to whom
      tally drain s3 --wait           then switch s3 off, and: tally members remove s3
      tally drain s3 --undo

    Exit status: 0 done, with --wait: it is drained; 1 refused, no such member, or etcd does not answer, with --wait
    also: it is stuck, and stderr says why, or somebody made it active again; 2 wrongly called; 130 Ctrl-C while
    waiting, the drain goes on.
    """  # noqa: D301 - \b is how click keeps lines apart.
    if undo and wait:
        raise click.UsageError("--undo has nothing to wait for; see how it goes with: tally status")
    where = find_cluster(etcd, cluster, access)
    change = make_now(where, lambda seen: undoing(seen, shard) if undo else draining(seen, shard), dry_run=dry_run)
    say(f"would be done: {change.text}" if dry_run else change.text)
    if undo or dry_run:
        return
    if not wait:
        say(f"follow it: tally drain {shard} --wait")
        return
    try:
        step, reasons = asyncio.run(_follow(where, shard, patience_s))
    except KeyboardInterrupt:
        click.echo(f"{shard} goes on draining; to end that: tally drain {shard} --undo", err=True)
        raise SystemExit(_INTERRUPTED) from None
    if step is not Step.DRAINED:
        _complain(shard, step, patience_s, reasons)
    say(f"{shard} may be switched off; then: tally members remove {shard}")


def _complain(shard: str, step: Step, patience_s: float, reasons: list[str]) -> NoReturn:
    if step is Step.UNDONE:
        raise Refused(f"{shard} is active again: somebody undid the drain")
    why = "; ".join(reasons) or "neither etcd nor the shards show why, so see the log of the controller (tally status)"
    raise Refused(f"nothing moved for {patience_s:g} s: {why}. {shard} goes on draining when that is over")


def draining(seen: Seen, shard: str) -> Change:
    """Decide to drain a shard. Pure.

    Raises:
        UnknownShard: There is no such member.
        Refused: No active member would be left.
    """
    state = seen.state
    member = _member(state, shard)
    rest = [name for name, one in state.members.items() if one.wanted is Wanted.ACTIVE and name != shard]
    if not rest:
        raise Refused(f"no active shard would be left to take the slots of {shard}; add one first, see README")
    told = describe(shard, drain_of(state, shard))
    asleep = [name for name in rest if name not in state.alive]
    if asleep:
        told += f"\nnot alive: {', '.join(asleep)}; what is to go there waits for it, up to 10 minutes"
    if member.wanted is Wanted.DRAINING:
        return Change(f"{shard} drains already; {told}")
    # All members: of two drains at the same time, each may count on the other's shard.
    guards = (seen.keys.config, *(seen.keys.member(name) for name in state.members))
    return Change(f"{shard} drains; {told}", guards, (_put(seen.keys, shard, member, Wanted.DRAINING),))


def undoing(seen: Seen, shard: str) -> Change:
    """Decide to make a shard active again. Pure.

    Raises:
        UnknownShard: There is no such member.
    """
    member = _member(seen.state, shard)
    if member.wanted is Wanted.ACTIVE:
        return Change(f"{shard} is active: nothing to undo")
    put = _put(seen.keys, shard, member, Wanted.ACTIVE)
    return Change(f"{shard} is active again, and gets its share of the slots", (seen.keys.member(shard),), (put,))


def _member(state: ClusterState, shard: str) -> Member:
    try:
        return state.members[shard]
    except KeyError:
        raise UnknownShard(shard, tuple(state.members)) from None


def _put(keys: Keys, shard: str, member: Member, wanted: Wanted) -> Put:
    return Put(keys.member(shard), replace(member, wanted=wanted).to_json())


def describe(shard: str, found: Drain) -> str:
    """Say what comes of a drain. Pure."""
    if not found.copies:
        lines = [f"it keeps no copies; when it is off: tally members remove {shard}"]
    else:
        lines = [f"it keeps {_copies(found.copies)}, {found.primaries} of them as primary; {_gains(found.gains)}"]
    if found.copies_each < found.wanted:
        few = "1 active shard remains" if found.copies_each == 1 else f"{found.copies_each} active shards remain"
        lines.append(f"{few} for {found.wanted} copies: each slot then has {_copies(found.copies_each)}")
    if found.floor < found.floor_wanted:
        lines.append(f"slots then take writes with {_copies(found.floor)} in sync, so that one shard may be away")
    return "\n".join(lines)


def _gains(gains: Mapping[str, int]) -> str:
    if not gains:
        return "none moves: the others have them all"
    total = sum(gains.values())
    to_whom = ", ".join(f"{shard} {count}" for shard, count in gains.items())
    return f"{_copies(total)} {'goes' if total == 1 else 'go'} to others: {to_whom}"


def _copies(count: int) -> str:
    return f"{count} {'copy' if count == 1 else 'copies'}"


async def _follow(where: Named, shard: str, patience_s: float) -> tuple[Step, list[str]]:
    """Watch until there is nothing to wait for any more; return how it ended, and why if it is stuck."""
    async with where.connect() as etcd:
        state = (await look(etcd, where.keys)).state
        watch = Watch(shard, state, time.monotonic(), patience_s=patience_s)
        with Bar(stderr_console(), watch.at_first) as bar:
            while True:
                step, reasons = await _see(watch, etcd, where.keys, shard)
                bar.show(watch.left)
                if step is not Step.GOES_ON:
                    return step, reasons
                await asyncio.sleep(_POLL_S)


async def _see(watch: Watch, etcd: Etcd, keys: Keys, shard: str) -> tuple[Step, list[str]]:
    try:
        state = (await look(etcd, keys)).state
    except EtcdUnavailable as exc:
        return watch.unseen(time.monotonic()), [str(exc)]
    answers: Answers = await ask_shards(state, joiners(state, shard))
    step = watch.see(state, answers, time.monotonic())
    if step is not Step.STUCK:
        return step, []
    return step, hindrances(state, shard, await ask_shards(state))


class Bar:
    """How a drain goes, on stderr: a bar on a terminal, a line every 10 % elsewhere. A context manager."""

    def __init__(self, console: Console, copies: int) -> None:
        """Take the stderr to write to, and how many copies there are at the start."""
        self._console = console
        self._copies = copies
        self._shown = -1
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._bar = Progress(*columns, console=console, transient=True)
            self._task = self._bar.add_task("", total=max(1, copies))

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, left: Left) -> None:
        """Show what is left; a line that can't be written stops nothing."""
        gone = max(0, self._copies - left.copies)
        if self._bar:
            self._bar.update(self._task, completed=gone if self._copies else 1, description=str(left))
            return
        tenth = gone * 10 // self._copies if self._copies else 10
        if tenth > self._shown:
            self._shown = tenth
            try:
                self._console.print(f"{left} ({tenth * 10} %)", markup=False, highlight=False, soft_wrap=True)
            except OSError:
                give_up(STDERR)
