"""``tally recover``: brings back the map of a cluster whose etcd lost its data, or has those of an old snapshot."""

import asyncio
from pathlib import Path
from typing import Any

import click

from tally.command.cluster import cluster_options, dry_run_option, find_cluster
from tally.command.options import Named, option
from tally.command.recovery.run import Recovery, Wish
from tally.command.streams import say


@click.command()
@option(
    "--data", type=click.Path(path_type=Path), help="The data directory of a shard, if etcd lost all: says what was."
)
@option("--shards", type=click.IntRange(1), help="How many shards the cluster had. Needed if etcd has no map.")
@option("--copies", type=int, default=3, help="How many shards keep each slot. Only if etcd lost all.")
@option(
    "--min-copies", type=int, help="With fewer in sync a slot takes no writes. Only if etcd lost all; without it: 2."
)
@click.option("--without", multiple=True, metavar="SHARD", help="Do not wait for this one. May be repeated.")
@click.option("--accept-data-loss", is_flag=True, help="Go on without what only such shards, or nobody, has.")
@click.option(
    "--wait-s", type=click.FloatRange(0), default=60.0, show_default=True, help="How long to wait for shards."
)
@cluster_options
@dry_run_option
def recover(
    *,
    data: Path | None,
    shards: int | None,
    copies: int,
    min_copies: int | None,
    without: tuple[str, ...],
    accept_data_loss: bool,
    wait_s: float,
    etcd: str | None,
    cluster: str | None,
    dry_run: bool,
    **access: Any,
) -> None:
    """Make the map anew from what the shards have, after etcd lost its data or was restored from an old snapshot.

    While that is not done, running shards and gateways go on with the map that they know, and count exactly. But nobody
    can change it: a shard that dies is not replaced, and one that is restarted waits. `tally status` says when this
    command is needed. Do not use `tally create`: it would make another cluster, which these shards refuse to join.

    First it lets the config in etcd say that the cluster is being recovered, so that nobody else makes a map. If the
    config is gone, --data names the data directory of one shard, on this machine, running or not: it says which cluster
    it was, and has its secret. How many copies it kept is not written there: say --copies, and --min-copies if it was
    not 2.

    Then it waits for all shards: start those that are off. Every copy is asked what it has, and takes nothing from an
    older primary any more. Slots pause from then on, a second or so. The most advanced copy of each slot becomes its
    primary, and the map is written in one transaction. Nothing that was acknowledged is lost, if all shards are there.

    A shard that is gone for good is left out with --without and --accept-data-loss: nothing is lost even so where
    another copy in sync is left, but that can't be found out any more. Make sure that it is off. A slot that nobody has
    a copy of is begun with nothing, with --accept-data-loss only.

    Broken off, it can be run again, and must be: until then the cluster takes no changes.

    \b
    Examples:
      tally recover --etcd etcd:2379 --shards 3 --data /var/lib/tally     etcd came back empty
      tally recover --etcd etcd:2379                                      etcd came back with an old map
      tally recover --etcd etcd:2379 --dry-run                            who is there, and whether it is needed

    Exit status: 0 recovered, or --dry-run; 1 refused or not needed, not all shards are there, or etcd or a shard does
    not answer: then it is safe to run it again; 2 wrongly called.
    """  # noqa: D301 - \b is how click keeps lines apart.
    where = find_cluster(etcd, cluster, access)
    wish = Wish(data, shards, copies, min_copies, frozenset(without), accept_data_loss, wait_s, act=not dry_run)
    if without and not accept_data_loss:
        raise click.UsageError("--without may lose data: say --accept-data-loss too")
    say(asyncio.run(_recover(where, wish)))


async def _recover(where: Named, wish: Wish) -> str:
    async with where.connect() as etcd:
        return await Recovery(etcd, where.keys, wish).run()
