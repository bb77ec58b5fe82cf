"""The command ``tally-shard``: one shard of a Tally cluster."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import click
import uvloop

from shard import node
from shard.settings import ShardSettings
from tally import logs
from tally.command.options import cluster_option, etcd_options, named, option
from tally.errors import TallyError
from tally.limits import raise_file_limit


@click.command(
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
    epilog="Example: tally-shard --etcd etcd1:2379,etcd2:2379 --data /var/lib/tally --listen 0.0.0.0:9101 "
    "--advertise shard4.internal:9101",
)
@etcd_options("Where the cluster is found.")
@cluster_option
@option(
    "--id",
    metavar="NAME",
    help="Id of the shard, the same for ever. Default: the one in --data, or a new one for an empty directory.",
)
@option("--data", type=click.Path(path_type=Path), default="data/shard", help="Directory of its data.")
@option("--listen", default="127.0.0.1:9101", metavar="HOST:PORT", help="Where to take gRPC.")
@option("--advertise", metavar="HOST:PORT", help="Where the others reach it. Default: --listen.")
@option("--lease-s", type=int, default=10, help="Seconds after the last sign of life until it counts as away.")
def main(*, etcd: str | None, cluster: str, id: str | None, **settings: Any) -> None:  # noqa: A002 - the flag's name.
    """Run one shard: it joins the cluster in etcd, keeps its slots in --data, and answers over gRPC.

    It waits for etcd, and for `tally create` to have made the cluster. SIGTERM ends it in order; killed, it goes on
    from its data at the next start.
    """
    logs.configure("shard")
    access = {name: settings.pop(name) for name in list(settings) if name.startswith("etcd_")}
    if etcd is None:
        raise click.UsageError("--etcd (or TALLY_ETCD) must say where etcd is, such as 127.0.0.1:2379")
    try:
        found = named(etcd, cluster, access)
        raise_file_limit()
        uvloop.run(_until_signalled(ShardSettings(etcd=found.etcd, keys=found.keys, shard=id, **settings)))
    except* TallyError as errors:
        for error in errors.exceptions:
            click.echo(f"tally-shard: {error}", err=True)
        sys.exit(1)


async def _until_signalled(settings: ShardSettings) -> None:
    serving = asyncio.create_task(node.run(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    await asyncio.wait([serving])
    if not serving.cancelled():
        serving.result()


if __name__ == "__main__":
    main()
