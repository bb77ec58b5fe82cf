"""``tally up``: a whole cluster on this machine."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from tally.address import Address
from tally.command.addresses import LOOPBACK, check_free, fresh_ports, port_is_free
from tally.command.lock import locked
from tally.command.machine_run import Run
from tally.command.options import cluster_option, etcd_options, named, new_config, option, shape_options
from tally.command.processes import Processes
from tally.command.programs import ETCD, ETCD_PEER, Machine, shard_names
from tally.command.remembered import FILE_NAME, Remembered, choose_ports
from tally.errors import ConfigError


@click.command()
@option("--http", default="127.0.0.1:8080", metavar="HOST:PORT", help="Where the gateway listens.")
@option("--shards", type=click.IntRange(1), default=3, help="How many shards to run.")
@option("--data", type=click.Path(file_okay=False, path_type=Path), default=Path("data"), help="All data goes here.")
@etcd_options("Use this etcd and start none.")
@cluster_option
@shape_options
def up(
    *,
    http: str,
    shards: int,
    data: Path,
    etcd: str | None,
    cluster: str,
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

    Exit status: 0 ended by Ctrl-C or SIGTERM, 1 it could not start.
    """  # noqa: D301 - \b is how click keeps lines apart.
    config = new_config(slots, spread, hours_together, copies, shards)
    address = Address.parse("--http", http)
    with locked(data):
        machine = _plan(data, address, shards, etcd, cluster)
        where = named(machine.etcd, cluster, access)
        check_free("--http", address)
        # By the environment, not by flags: a password would show in the list of processes.
        own = {f"TALLY_{name.upper()}": str(value) for name, value in access.items() if value is not None}
        processes = Processes({**os.environ, **own})
        asyncio.run(_until_interrupted(Run(machine, where, config, shards, own_etcd=etcd is None, processes=processes)))


def _plan(data: Path, http: Address, shards: int, etcd: str | None, cluster: str) -> Machine:
    """Choose what is not said: the ports of the last run, as far as they are free."""
    before = Remembered.load(data / FILE_NAME)
    had = before.shards() if before else []
    if shards < len(had):
        raise ConfigError("--shards", shards, f"{len(had)} or more: so many have data in {data}")
    names = shard_names(shards) if etcd else [ETCD, ETCD_PEER, *shard_names(shards)]
    ports = choose_ports(names, before.ports if before else {}, port_is_free, fresh_ports())
    return Machine(data, http, etcd or f"{LOOPBACK}:{ports[ETCD]}", cluster, ports)


async def _until_interrupted(run: Run) -> None:
    """Run until it ends by itself or somebody asks for an end; whichever it is, leave no process behind."""
    asked, asked_again = asyncio.Event(), asyncio.Event()

    def ask(what: signal.Signals) -> None:
        if not asked.is_set():
            click.echo(f"{what.name} received", err=True)
        (asked_again if asked.is_set() else asked).set()

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
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
