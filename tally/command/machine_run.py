"""One run of ``tally up``: the order in which things start and end, and what is said about them."""

import asyncio
import shlex
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aiohttp
import click

from tally.cluster.config import ClusterConfig
from tally.cluster.creation import create_if_absent
from tally.cluster.local_etcd import find_etcd
from tally.command.addresses import LOOPBACK, url_of
from tally.command.create import describe
from tally.command.options import Named
from tally.command.processes import Ended, Processes, StartFailed, how_it_ended
from tally.command.programs import ETCD, GATEWAY, Machine, Program, shard_names, stages
from tally.command.remembered import FILE_NAME, Remembered
from tally.command.tables import table
from tally.errors import EtcdUnavailable, TallyError

ETCD_START_S_MAX: Final = 30.0
SLOW_START_S: Final = 30.0
_PAUSE_S: Final = 0.05

T = TypeVar("T")


class AllEnded(TallyError):
    """Nothing runs any more."""

    def __str__(self) -> str:
        return "all processes have ended"


@dataclass
class Run:
    """A cluster on this machine, while it runs."""

    machine: Machine
    where: Named
    config: ClusterConfig
    shards: int
    own_etcd: bool
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
        if self.own_etcd:
            programs.append(machine.local_etcd(find_etcd()))
            await self.processes.start(programs[0])
            await self._unless_one_ends(_accepts(machine.ports[ETCD]))
        click.echo(await self._unless_one_ends(self._create()))
        # Only now: settings that were refused shall leave no trace.
        Remembered(etcd=machine.etcd, cluster=machine.cluster, ports=machine.ports).save(machine.data / FILE_NAME)
        (machine.data / GATEWAY).mkdir(exist_ok=True)
        rest = [*(machine.shard(name) for name in shard_names(self.shards)), machine.gateway()]
        for program in rest:
            await self.processes.start(program)
        return [*programs, *rest]

    async def _create(self) -> str:
        async with self.where.connect() as etcd:
            creation = await create_if_absent(etcd, self.where.keys, self.config)
        return describe(self.where.keys.cluster, creation)

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
        task = asyncio.create_task(work)
        end = asyncio.create_task(self.processes.ended.get())
        try:
            await asyncio.wait({task, end}, return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                ended = end.result()
                words = f"{how_it_ended(ended.status)}; {ended.last_words or 'it wrote nothing'}"
                raise StartFailed(ended.program.name, words, str(ended.program.log))
            return task.result()
        finally:
            task.cancel()
            end.cancel()
            await asyncio.gather(task, end, return_exceptions=True)


async def _accepts(port: int) -> None:
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
        raise EtcdUnavailable(f"{LOOPBACK}:{port}", f"not within {ETCD_START_S_MAX:.0f} s of its start") from None


async def _not_ready(session: aiohttp.ClientSession, url: str) -> str | None:
    """Return why it is not ready, None if it is."""
    try:
        async with session.get(url) as answer:
            text = await answer.text()
            return None if answer.status == 200 else " ".join(text.split())
    except (aiohttp.ClientError, TimeoutError) as exc:
        return str(exc) or "no answer"


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
