"""One run of ``tally up``: the order in which things start and end, and what is said about them."""

import asyncio
import shlex
import shutil
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
import click

from tally.cluster.config import ClusterConfig
from tally.cluster.creation import create_if_absent, create_secret
from tally.cluster.local_etcd import find_etcd
from tally.cluster.state import ClusterState
from tally.command.create import describe
from tally.command.machine.addresses import LOOPBACK, url_of
from tally.command.machine.processes import Ended, Processes, StartFailed, how_it_ended, last_words
from tally.command.machine.programs import ETCD, ETCD_PEER, GATEWAY, Machine, Program, stages
from tally.command.machine.remembered import FILE_NAME, Remembered
from tally.command.options import Named
from tally.command.tables import table
from tally.errors import TallyError
from tally.files import make_directories
from tally.tasks import awaited

ETCD_START_S_MAX: Final = 30.0
SLOW_START_S: Final = 30.0
_PAUSE_S: Final = 0.05
_BY_HAND: Final = "if it is a process of an earlier run that was started by hand, end it, then run again"

T = TypeVar("T")


class AllEnded(TallyError):
    """Nothing runs any more."""

    def __str__(self) -> str:
        return "all processes have ended"


class ForeignMembers(TallyError):
    """The cluster in etcd has shards whose data is elsewhere. Nothing was started."""

    def __init__(self, cluster: str, shards: tuple[str, ...], data: str) -> None:
        super().__init__(cluster, shards, data)
        self.cluster = cluster
        self.shards = shards
        self.data = data

    def __str__(self) -> str:
        return (
            f"cluster {self.cluster!r} in this etcd has shards whose data is not in {self.data}: "
            f"{', '.join(self.shards)}; choose another --cluster, or the --data that it was started with"
        )


@dataclass
class Run:
    """A cluster on this machine, while it runs."""

    machine: Machine
    where: Named
    config: ClusterConfig
    before: Remembered | None
    processes: Processes

    async def run(self) -> None:
        """Start all, tell when they are ready, then tell who dies.

        Raises:
            StartFailed: A process ended before all were ready.
            TallyError: The cluster can't be made.
            AllEnded: No process is left.
        """
        began = time.monotonic()
        programs = await self._start()
        click.echo(what_runs([(program, self.processes.pid(program.name)) for program in programs]))
        click.echo(f"\n{things_to_try(url_of(self.machine.http), int(time.time() * 1000))}\n")
        await self._unless_one_ends(self._ready())
        click.echo(f"ready after {time.monotonic() - began:.1f} s; Ctrl-C ends all")
        while self.processes.names():
            click.echo(obituary(await self.processes.ended.get()), err=True)
        raise AllEnded

    async def end(self, at_once: asyncio.Event) -> None:
        """End all that run, in their order; kill them when ``at_once`` is set."""
        names = self.processes.names()
        if names:
            click.echo(f"ending {', '.join(name for stage in stages(names) for name in stage)}", err=True)
        for stage in stages(names):
            await self.processes.end(stage, at_once)

    async def _start(self) -> list[Program]:
        machine, programs = self.machine, []
        if ETCD in machine.ports:
            programs.append(machine.local_etcd(find_etcd()))
            if self.before is None or not self.before.shards():
                # What etcd makes must be known as ours, even if this start is cut short. Such a start leaves an etcd
                # that may never answer again, and that no shard ever saw.
                self._remember({name: machine.ports[name] for name in (ETCD, ETCD_PEER)})
                shutil.rmtree(machine.data / ETCD, ignore_errors=True)
            await self.processes.start(programs[0])
            await self._unless_one_ends(_accepts(machine.ports[ETCD], programs[0].log))
        click.echo(await self._unless_one_ends(self._create()))
        # Only now: settings that were refused shall leave no trace.
        self._remember(machine.ports)
        make_directories(machine.data / GATEWAY)
        rest = [*(machine.shard(name) for name in machine.shards), machine.gateway()]
        for program in rest:
            await self.processes.start(program)
        return [*programs, *rest]

    async def _create(self) -> str:
        keys = self.where.keys
        async with self.where.connect() as etcd:
            creation = await create_if_absent(etcd, keys, self.config)
            await create_secret(etcd, keys)  # All processes are ours: none of an older version runs.
            if ETCD not in self.machine.ports:
                state = ClusterState.from_etcd(keys, (await etcd.read_prefix(keys.prefix)).found)
                ours = self.before.shards() if self.before else []
                check_members(keys.cluster, state.members, ours, self.machine.data)
        return describe(keys.cluster, creation)

    def _remember(self, ports: Mapping[str, int]) -> None:
        left = Remembered(etcd=self.machine.etcd, cluster=self.machine.cluster, ports=ports)
        left.save(self.machine.data / FILE_NAME)

    async def _ready(self) -> None:
        """Wait until the gateway says that all slots serve; after a while say what it waits for."""
        slow_at = time.monotonic() + SLOW_START_S
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0)) as session:
            while True:
                reason = await _not_ready(session, f"{url_of(self.machine.http)}/readyz")
                if reason is None:
                    return
                if time.monotonic() > slow_at:
                    click.echo(f"not ready yet: {reason}", err=True)
                    slow_at += SLOW_START_S
                await asyncio.sleep(_PAUSE_S)

    async def _unless_one_ends(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what ``work`` gives; raise ``StartFailed`` if a process ends first."""
        task = awaited(work, name="work")
        end = awaited(self.processes.ended.get(), name="end of a process")
        try:
            await asyncio.wait({task, end}, return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                ended = end.result()
                raise StartFailed(ended.program.name, why_it_did_not_start(ended), str(ended.program.log))
            return task.result()
        finally:
            task.cancel()
            end.cancel()
            await asyncio.gather(task, end, return_exceptions=True)


async def _accepts(port: int, log: Path) -> None:
    """Wait until something listens on this port of 127.0.0.1."""
    try:
        async with asyncio.timeout(ETCD_START_S_MAX):
            while True:
                try:
                    _, writer = await asyncio.open_connection(LOOPBACK, port)
                except ConnectionError:
                    await asyncio.sleep(_PAUSE_S)
                    continue
                writer.close()
                return
    except TimeoutError:
        # An etcd waits for ever for the lock of its data.
        why = f"it takes no connections after {ETCD_START_S_MAX:.0f} s; {last_words(log, 0)}; {_BY_HAND}"
        raise StartFailed(ETCD, why, str(log)) from None


async def _not_ready(session: aiohttp.ClientSession, url: str) -> str | None:
    """Return why it is not ready, None if it is."""
    try:
        async with session.get(url) as answer:
            return None if answer.status == 200 else why_not_ready(await answer.text())
    except (aiohttp.ClientError, TimeoutError) as exc:
        return str(exc) or "no answer"


def why_not_ready(answer: str) -> str:
    """Return the reasons in what ``/readyz`` answered, on one line. Pure."""
    lines = [line.strip() for line in answer.splitlines()]
    return "; ".join(line for line in lines if line not in {"", "not ready"}) or "no reason given"


def why_it_did_not_start(ended: Ended) -> str:
    """Say why a process ended while the others were being started. Pure."""
    words = f"{how_it_ended(ended.status)}; {ended.last_words or 'it wrote nothing'}"
    return f"{words}; {_BY_HAND}" if "another process has it open" in words else words


def check_members(cluster: str, members: Iterable[str], ours: Sequence[str], data: Path) -> None:
    """Make sure that a cluster in an operator's etcd has no shards but ours. Pure.

    Raises:
        ForeignMembers: It has; ours would mix with them, or take their places.
    """
    foreign = [shard for shard in members if shard not in ours]
    if foreign:
        raise ForeignMembers(cluster, tuple(foreign), str(data))


def what_runs(running: list[tuple[Program, int]]) -> str:
    """Say what runs where. Pure."""
    rows = [(program.name, str(pid), program.address, str(program.log)) for program, pid in running]
    return table(("PROCESS", "PID", "ADDRESS", "LOG"), rows)


def things_to_try(url: str, now_ms: int) -> str:
    """Return two command lines for a newcomer. Pure."""
    where = f"{url}/analytics?timestamp={now_ms}"
    return f"Try:\n  curl -i -X POST '{where}&user=ann&click'\n  curl '{where}'"


def obituary(ended: Ended) -> str:
    """Say who died of what, and what to do about it. Pure."""
    program = ended.program
    return "\n".join(
        (
            f"{program.name} has ended: {how_it_ended(ended.status)}. The others go on.",
            f"  its last line in {program.log}: {ended.last_words or '(none)'}",
            f"  start it again with: {shlex.join(program.command)}",
        )
    )
