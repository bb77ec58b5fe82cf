"""The command ``tally-gateway``, also as ``python -m gateway``."""

import sys
from pathlib import Path
from typing import Any

import click
import uvloop

from gateway.process import serve
from gateway.settings import GatewaySettings
from gateway.workers import supervise
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
from tally.limits import raise_file_limit


@click.command(
    context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]},
    epilog=completion("tally-gateway"),
)
@click.version_option(__version__, prog_name="tally-gateway")
@etcd_options("Where etcd is.")
@cluster_option
@option("--listen", default=GatewaySettings.listen, metavar="HOST:PORT", help="Where to take HTTP.")
@option(
    "--map-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the map here, and start from it when etcd is away.",
)
@resolve_option
@option("--queue-events", default=GatewaySettings.queue_events, help="Events that may wait; beyond it 503.")
@option("--slot-queue-events", default=GatewaySettings.slot_queue_events, help="Events that may wait for one slot.")
@option("--reads-waiting", default=GatewaySettings.reads_waiting, help="Readers that may wait; beyond it 503.")
@option("--deadline-s", default=GatewaySettings.deadline_s, help="Seconds that a request may take.")
@option("--header-timeout-s", default=GatewaySettings.header_timeout_s, help="Seconds for a request to arrive.")
@option("--idle-timeout-s", default=GatewaySettings.idle_timeout_s, help="Seconds that a connection may lie idle.")
@option("--connections", default=GatewaySettings.connections, help="Connections that may be open at a time.")
@option(
    "--lame-duck-s",
    default=GatewaySettings.lame_duck_s,
    help="Seconds to go on after SIGTERM, while /readyz says 503.",
)
@option("--metrics", metavar="HOST:PORT", help="Where to answer GET /metrics, for Prometheus. Default: nowhere.")
@option(
    "--workers",
    default=GatewaySettings.workers,
    help="Processes that share the address; each uses one processor. They take the ports after that of --metrics too.",
)
@log_level_option
# How a process of several is told which one it is. No variable: who writes TALLY_WORKER means TALLY_WORKERS.
@click.option("--worker-number", "worker", type=int, hidden=True)
def gateway(etcd: str | None, cluster: str, log_level: str, **others: Any) -> None:
    """Take analytics over HTTP and route them to the shards that etcd names.

    Exit status: 0 after SIGTERM or SIGINT, 1 if it can't start, 2 for a wrong option.
    """
    logs.configure("gateway", log_level)
    if etcd is None:
        raise click.UsageError("say where etcd is: --etcd HOST:PORT, or TALLY_ETCD")
    access = {name: others.pop(name) for name in list(others) if name.startswith("etcd_")}
    try:
        where = named(etcd, cluster, access)
        settings = GatewaySettings(etcd=where.etcd, keys=where.keys, **others)
    except ConfigError as exc:
        click.echo(f"tally-gateway: {exc}", err=True)
        sys.exit(2)
    raise_file_limit(settings.connections)
    collector.settle()
    try:
        if settings.workers > 1 and settings.worker is None:
            sys.exit(uvloop.run(supervise(settings, sys.argv[1:])))
        uvloop.run(serve(settings))
    except TallyError as exc:
        click.echo(f"tally-gateway: {exc}", err=True)
        sys.exit(1)


def main() -> None:
    """Run the command line."""
    gateway(prog_name="tally-gateway")


if __name__ == "__main__":
    main()
