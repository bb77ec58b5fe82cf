"""The command ``tally-shard``: one shard of a Tally cluster."""

import asyncio
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import click
import uvloop

from shard import node
from shard.settings import ShardSettings
from tally import __version__, collector, logs
from tally.command.options import (
    cluster_option,
    completion,
    etcd_options,
    log_level_option,
    named,
    option,
    resolve_option,
)
from tally.errors import ConfigError, TallyError
from tally.limits import ignore_hangup, raise_file_limit
from tally.tasks import awaited


@click.command(
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
    epilog="Example: tally-shard --etcd etcd1:2379,etcd2:2379 --data /var/lib/tally --listen 0.0.0.0:9101 "
    "--advertise shard4.internal:9101\n\n" + completion("tally-shard"),
)
@click.version_option(__version__, prog_name="tally-shard")
@etcd_options("Where the cluster is found.")
@cluster_option
@option(
    "--id",
    metavar="NAME",
    help="Id of the shard, the same for ever. Default: the one in --data, or a new one for an empty directory.",
)
@option("--data", type=click.Path(path_type=Path), default=ShardSettings.data, help="Directory of its data.")
@option("--listen", default=ShardSettings.listen, metavar="HOST:PORT", help="Where to take gRPC from clients.")
@option("--advertise", metavar="HOST:PORT", help="Where clients reach it. Default: --listen.")
@option(
    "--peer-listen",
    metavar="HOST:PORT",
    help="Where to take gRPC from the cluster's own processes. Default: --listen, with 100 added to its port.",
)
@option(
    "--peer-advertise",
    metavar="HOST:PORT",
    help="Where these reach it. Default: --peer-listen, or --advertise with 100 added to its port.",
)
@option("--lease-s", default=ShardSettings.lease_s, help="Seconds after the last sign of life until it counts as away.")
@resolve_option
@option(
    "--cache-mib",
    default=ShardSettings.cache_mib,
    help="Memory in MiB for what was read from the database; what is to be written to it takes half more at most.",
)
@option("--metrics", metavar="HOST:PORT", help="Where to answer GET /metrics, for Prometheus. Default: nowhere.")
@option(
    "--set-damaged-aside",
    is_flag=True,
    help="Go on without a damaged database even if no other shard has its slots: they stay unserved until "
    "`tally give-up`. For one start.",
)
@log_level_option
@option("--crash-at", hidden=True, help="For tests: end without warning at a step of a move.")
@option("--crash-on-user", hidden=True, help="For tests: end without warning when an event of this user is counted.")
def main(*, etcd: str | None, cluster: str, id: str | None, log_level: str, **settings: Any) -> None:  # noqa: A002 - the flag's name.
    """Run one shard: it joins the cluster in etcd, keeps its slots in --data, and answers over gRPC.

    It waits for etcd, and for `tally create` to have made the cluster. SIGTERM ends it in order; killed, it goes on
    from its data at the next start.

    Exit status: 0 after SIGTERM or SIGINT, 1 if it can't start or go on, 2 for a wrong option.
    """
    logs.configure("shard", log_level)
    access = {name: settings.pop(name) for name in list(settings) if name.startswith("etcd_")}
    if etcd is None:
        raise click.UsageError("--etcd (or TALLY_ETCD) must say where etcd is, such as 127.0.0.1:2379")
    try:
        found = named(etcd, cluster, access)
        checked = ShardSettings(etcd=found.etcd, keys=found.keys, shard=id, **settings)
    except ConfigError as exc:
        _end([exc], status=2)
    raise_file_limit()
    errors: list[TallyError] = []
    collector.settle()
    try:
        uvloop.run(_until_signalled(checked))
    except* TallyError as group:
        errors = list(_leaves(group))
    # Not in the block above: what leaves it becomes a group, with a traceback.
    if errors:
        _end(errors, status=1)


def _leaves(group: BaseExceptionGroup[TallyError]) -> Iterator[TallyError]:
    """Give the errors of a group, those of the groups in it too."""
    for one in group.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from _leaves(one)
        else:
            yield one


def _end(errors: Iterable[TallyError], *, status: int) -> NoReturn:
    for error in errors:
        click.echo(f"tally-shard: {error}", err=True)
    sys.exit(status)


async def _until_signalled(settings: ShardSettings) -> None:
    stop = node.Stop()
    serving = awaited(node.run(settings, stop), name="shard")

    def signalled() -> None:
        # In order if it serves; at once while it still waits for etcd, and the second time.
        if stop.asked.is_set() or not stop.in_order:
            serving.cancel()
        stop.asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signalled)
    ignore_hangup()
    await asyncio.wait([serving])
    if not serving.cancelled():
        serving.result()


if __name__ == "__main__":
    main()
