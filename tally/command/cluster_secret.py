"""``tally secret``: what the processes of a cluster prove themselves with to each other. It is never shown."""

import asyncio
from typing import Any

import click

from tally.cluster.creation import create_secret
from tally.command.cluster import cluster_options, find_cluster
from tally.command.options import Named
from tally.command.streams import say


@click.group()
def secret() -> None:
    """Make the secret that the processes of a cluster prove themselves with to each other, or exchange it.

    Shards take calls on --peer-listen only from who knows it. It stands in etcd, where all processes of the cluster and
    these commands find it; in the data directory of each shard; and in the map files of gateways. Nothing shows it.
    """


@secret.command()
@cluster_options
def create(*, etcd: str | None, cluster: str | None, **access: Any) -> None:
    """Draw a secret for a cluster that has none, because a version made it that knew none.

    `tally create` draws one for each new cluster. Safe to repeat: a secret that is there stays.

    \b
    To upgrade such a cluster, end all its gateways and shards, then:
      tally secret create --etcd etcd:2379
    and start them in their new version.

    Exit status: 0 it has one, 1 etcd does not answer or there is no such cluster, 2 wrongly called.
    """  # noqa: D301 - \b is how click keeps lines apart.
    where = find_cluster(etcd, cluster, access)
    made = asyncio.run(_make(where, replace=False))
    say(f"cluster {where.keys.cluster!r} has a secret {'now' if made else 'already; it stays'}")


@secret.command()
@cluster_options
def replace(*, etcd: str | None, cluster: str | None, **access: Any) -> None:
    """Draw another secret, because somebody may know the present one.

    Running processes take it over within a second or two, and some requests wait for that. A process that does not
    reach etcd just then can't speak to the others until it does: look at `tally status` first. Streams that are open
    stay so: restart one shard after the other to be rid of a stranger.

    Exit status: 0 replaced, 1 etcd does not answer or there is no such cluster, 2 wrongly called.
    """
    where = find_cluster(etcd, cluster, access)
    asyncio.run(_make(where, replace=True))
    say(f"cluster {where.keys.cluster!r} has another secret now")


async def _make(where: Named, *, replace: bool) -> bool:
    async with where.connect() as etcd:
        return await create_secret(etcd, where.keys, replace=replace)
