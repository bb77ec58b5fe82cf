"""``tally create``: a new cluster in an operator's etcd."""

import asyncio
from typing import Any

import click

from tally.cluster.config import ClusterConfig
from tally.cluster.creation import Creation, create_if_absent
from tally.command.cluster_config import without_spare
from tally.command.options import Named, cluster_option, etcd_options, named, new_config, option, shape_options
from tally.command.streams import say
from tally.errors import SecretMissing


@click.command()
@etcd_options("The etcd to make it in.")
@cluster_option
@option("--shards", type=int, default=3, help="The slots are shared out when so many shards are there.")
@shape_options
def create(
    *,
    etcd: str | None,
    cluster: str,
    shards: int,
    slots: int,
    spread: int,
    hours_together: int,
    copies: int,
    **access: Any,
) -> None:
    """Make a cluster in etcd; shards and gateways can be started before or after.

    Safe to repeat: a cluster that is there already with the same fixed settings is left as it is.

    \b
    Examples:
      tally create --etcd 10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379
      tally create --etcd localhost:2379 --cluster test --shards 1 --slots 16 --spread 4

    Exit status: 0 it is there, 1 not, or one with other fixed settings is, 2 wrongly called.
    """  # noqa: D301 - \b is how click keeps lines apart.
    if not etcd:
        raise click.UsageError("say which etcd with --etcd host:port or TALLY_ETCD")
    wanted = new_config(slots, spread, hours_together, copies, shards)
    where = named(etcd, cluster, access)
    creation = asyncio.run(_create(where, wanted))
    say(describe(where.keys.cluster, creation))
    if creation.config.first_shards != shards:
        click.echo(
            f"--shards {shards} changes nothing: the cluster was made with {creation.config.first_shards}", err=True
        )
    if not creation.secret:
        click.echo(str(SecretMissing(cluster)), err=True)
    if warning := without_spare(creation.config, creation.config.first_shards):
        click.echo(warning, err=True)


async def _create(where: Named, wanted: ClusterConfig) -> Creation:
    async with where.connect() as etcd:
        return await create_if_absent(etcd, where.keys, wanted)


def describe(cluster: str, creation: Creation) -> str:
    """Say what a cluster is like. Pure."""
    config = creation.config
    what = (
        f"{config.shape.slots} slots, spread {config.shape.widest}, {config.shape.hours_together} hours together, "
        f"{config.copies} {'copy' if config.copies == 1 else 'copies'}, first map with {config.first_shards} shards"
    )
    return f"cluster {cluster!r} {'made' if creation.made else 'is there already'}: {what}"
