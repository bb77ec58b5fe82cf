"""The command ``tally-shard``: one shard of a Tally cluster."""

import asyncio
import signal
import sys
from pathlib import Path

import click
import uvloop

from shard import node
from shard.settings import ShardSettings
from tally import logs
from tally.cluster.etcd import EtcdSettings, parse_endpoints
from tally.errors import TallyError

_PATH = click.Path(path_type=Path)


@click.command(
    context_settings={"show_default": True, "max_content_width": 100, "help_option_names": ["-h", "--help"]},
    epilog="Example: tally-shard --etcd 10.0.0.5:2379 --data /var/lib/tally --listen 0.0.0.0:9101 "
    "--advertise shard4.internal:9101",
)
@click.option("--etcd", required=True, envvar="TALLY_ETCD", show_envvar=True, help="host:port of etcd, with commas.")
@click.option("--etcd-user", envvar="TALLY_ETCD_USER", show_envvar=True, help="If etcd asks for a user.")
@click.option("--etcd-password", envvar="TALLY_ETCD_PASSWORD", show_envvar=True, help="Better given by the variable.")
@click.option("--etcd-ca", type=_PATH, envvar="TALLY_ETCD_CA", show_envvar=True, help="PEM to trust etcd by.")
@click.option("--etcd-cert", type=_PATH, envvar="TALLY_ETCD_CERT", show_envvar=True, help="PEM of our certificate.")
@click.option("--etcd-key", type=_PATH, envvar="TALLY_ETCD_KEY", show_envvar=True, help="PEM of its key.")
@click.option("--cluster", default="default", envvar="TALLY_CLUSTER", show_envvar=True, help="Cluster to belong to.")
@click.option(
    "--id",
    "shard",
    envvar="TALLY_SHARD_ID",
    show_envvar=True,
    help="Id of the shard, the same for ever. Default: the one in --data, or a new one for an empty directory.",
)
@click.option(
    "--data", type=_PATH, default="data/shard", envvar="TALLY_DATA", show_envvar=True, help="Directory of the data."
)
@click.option(
    "--listen", default="127.0.0.1:9101", envvar="TALLY_LISTEN", show_envvar=True, help="host:port to listen on."
)
@click.option(
    "--advertise", envvar="TALLY_ADVERTISE", show_envvar=True, help="host:port for the others. Default: --listen."
)
@click.option(
    "--lease-s",
    type=int,
    default=10,
    envvar="TALLY_LEASE_S",
    show_envvar=True,
    help="Seconds after the last sign of life until the shard counts as away.",
)
def main(
    *,
    etcd: str,
    etcd_user: str | None,
    etcd_password: str | None,
    etcd_ca: Path | None,
    etcd_cert: Path | None,
    etcd_key: Path | None,
    cluster: str,
    shard: str | None,
    data: Path,
    listen: str,
    advertise: str | None,
    lease_s: int,
) -> None:
    """Run one shard: it joins the cluster in etcd, keeps its slots in --data, and answers over gRPC.

    It waits for etcd, and for `tally create` to have made the cluster. SIGTERM ends it in order; killed, it goes on
    from its data at the next start.
    """
    logs.configure("shard")
    try:
        settings = ShardSettings(
            etcd=EtcdSettings(
                endpoints=parse_endpoints(etcd),
                user=etcd_user,
                password=etcd_password,
                ca_file=etcd_ca,
                cert_file=etcd_cert,
                key_file=etcd_key,
            ),
            cluster=cluster,
            shard=shard,
            data=data,
            listen=listen,
            advertise=advertise,
            lease_s=lease_s,
        )
        uvloop.run(_until_signalled(settings))
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
