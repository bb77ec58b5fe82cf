"""``tally up``: a whole cluster on this machine."""

import asyncio
import os
import signal
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from tally import logs
from tally.address import Address
from tally.cluster.config import FIRST_SHARDS_MAX
from tally.cluster.keys import check_name
from tally.command.machine.addresses import LOOPBACK, fresh_ports, port_is_free
from tally.command.machine.lock import locked
from tally.command.machine.processes import Processes, StartFailed
from tally.command.machine.programs import ETCD, Machine, port_names, usual_ports
from tally.command.machine.remembered import FILE_NAME, Remembered, check_directory, choose_ports
from tally.command.machine.run import Run
from tally.command.options import etcd_options, log_level_option, named, new_config, option, shape_options
from tally.errors import ConfigError
from tally.listening import check_free
from tally.tasks import awaited

_SHARDS: Final = 3
_PORT_CHOICES: Final = 3


class _Directory(click.Path):
    """A directory that is named: an empty value, of a variable that is not set, would be the current one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("an empty value names no directory", param, ctx)
        return super().convert(value, param, ctx)


@click.command()
@option("--http", default="127.0.0.1:8080", metavar="HOST:PORT", help="Where the gateway listens.")
@option("--shards", type=click.IntRange(1, FIRST_SHARDS_MAX), help="Without it: as many as have data, else 3.")
@option("--data", type=_Directory(file_okay=False, path_type=Path), default=Path("data"), help="All data goes here.")
@etcd_options("Use this etcd and start none.")
@option("--cluster", metavar="NAME", help="Its name in etcd. Without it: that of the last run, else default.")
@log_level_option
@shape_options
def up(
    *,
    http: str,
    shards: int | None,
    data: Path,
    etcd: str | None,
    cluster: str | None,
    log_level: str,
    slots: int,
    spread: int,
    hours_together: int,
    copies: int,
    **access: Any,
) -> None:
    """Run a whole cluster on this machine: an etcd, some shards and a gateway, until Ctrl-C.

    Run again, it goes on with the data that is there. When one of its processes dies it says so, and the others go on.
    Logs are in DATA/logs.

    \b
    Examples:
      tally up
      tally up --http 127.0.0.1:9090 --shards 5 --data /tmp/tally
      tally up --etcd 10.0.0.1:2379 --cluster mine

    Exit status: 0 ended by Ctrl-C or SIGTERM, 1 it could not start, 2 wrongly called.
    """  # noqa: D301 - \b is how click keeps lines apart.
    logs.guard_output()  # Who stops the terminal, or ends the pipe that this goes to, stops no cluster.
    address = Address.parse("--http", http)
    new_config(slots, spread, hours_together, copies, shards or _SHARDS)  # Complains before anything is made.
    check_directory(data)
    with locked(data):
        for left in reversed(range(_PORT_CHOICES)):
            before = Remembered.load(data / FILE_NAME)
            machine = plan(data, address, before, shards=shards, etcd=etcd, cluster=cluster)
            where = named(machine.etcd, machine.cluster, access)
            check_free("--http HOST:PORT (make run HTTP=HOST:PORT)", address)
            config = new_config(slots, spread, hours_together, copies, len(machine.shards))
            environment = child_environment(os.environ, {**access, "log_level": log_level})
            try:
                asyncio.run(_until_interrupted(Run(machine, where, config, before, Processes(environment))))
            except StartFailed as exc:
                # Ours have ended, so whoever has one of the ports came after they were chosen.
                taken = [str(port) for port in machine.ports.values() if not port_is_free(port)]
                if not taken or not left:
                    raise
                click.echo(f"{exc}\nport {', '.join(taken)} was taken meanwhile: choosing again", err=True)
            else:
                return


def child_environment(environment: Mapping[str, str], settings: Mapping[str, object]) -> dict[str, str]:
    """Return what the processes get: not our own settings, which they would take for theirs. Pure.

    Args:
        environment: Ours.
        settings: What is for all of them, such as how to get into etcd; not by flags, because a password would show in
            the list of processes.
    """
    others = {name: value for name, value in environment.items() if not name.startswith("TALLY_")}
    return {**others, **{f"TALLY_{name.upper()}": str(value) for name, value in settings.items() if value is not None}}


def plan(
    data: Path,
    http: Address,
    before: Remembered | None,
    *,
    shards: int | None = None,
    etcd: str | None = None,
    cluster: str | None = None,
) -> Machine:
    """Choose what is not said: as in the last run, as far as the ports are free.

    Raises:
        ConfigError: What is said does not fit the last run.
    """
    had = before.shards() if before else []
    if shards is not None and shards < len(had):
        raise ConfigError("--shards", shards, f"{len(had)} or more: so many have data in {data}")
    if before and cluster not in {None, before.cluster}:
        raise ConfigError(
            "--cluster", cluster, f"{before.cluster}: its data is in {data}; another needs another --data"
        )
    if before and before.own_etcd and etcd:
        raise ConfigError("--etcd", etcd, f"none: the cluster in {data} has its own etcd there; or another --data")
    if before and not before.own_etcd and not etcd:
        raise ConfigError("--etcd", None, f"the cluster in {data} was last in the etcd at {before.etcd}")
    count = shards or len(had) or _SHARDS
    names = port_names(count, own_etcd=not etcd)
    ports = choose_ports(names, before.ports if before else {}, usual_ports(count), port_is_free, fresh_ports())
    name = cluster or (before.cluster if before else "default")
    return Machine(data, http, etcd or f"{LOOPBACK}:{ports[ETCD]}", check_name("--cluster", name), ports)


async def _until_interrupted(run: Run) -> None:
    """Run until it ends by itself or somebody asks for an end; whichever it is, leave no process behind."""
    asked, asked_again = asyncio.Event(), asyncio.Event()

    def ask(what: signal.Signals) -> None:
        if not asked.is_set():
            asked.set()
            with suppress(OSError):  # Its terminal may be what is gone.
                click.echo(f"{what.name} received", err=True)
        elif what is not signal.SIGHUP:  # The kernel and a shell may both send it: nobody has lost patience.
            asked_again.set()

    loop = asyncio.get_running_loop()
    for what in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(what, ask, what)
    try:
        await _first_of(run.run(), asked.wait())
    finally:
        asked.set()  # From here on one Ctrl-C is enough to kill what is left.
        await run.end(asked_again)


async def _first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Wait until one is done, cancel the others, and raise what the first one raised."""
    tasks = [awaited(coroutine, name="one of several") for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
