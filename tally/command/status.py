"""``tally status``: shards, slots and the controller."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from protos.tally.internal.v1 import node_pb2_grpc
from tally.client.channel import open_channel
from tally.client.readiness import serving_slots
from tally.cluster.state import ClusterState
from tally.command.machine.remembered import FILE_NAME, Remembered
from tally.command.options import Named, etcd_options, named, option
from tally.command.report import render_json, render_table, status_report
from tally.command.streams import say

STATUS_TIMEOUT_S: Final = 1.0  # A person waits for it, and a slow shard is no dead one.
_DATA_OF_UP: Final = Path("data")  # Where `tally up` keeps its data, unless told otherwise.


@click.command()
@etcd_options("The etcd of the cluster. Without it: that of `tally up` with its data in ./data.")
@option("--cluster", metavar="NAME", help="Without it: the one of `tally up` as above, else default.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def status(etcd: str | None, cluster: str | None, output: str, **access: Any) -> None:
    """Show the shards, alive or not, how many slots each should serve and does serve, and the controller.

    ALIVE says that a shard's process holds its lease in etcd. SLOTS are those that the map gives it, SERVING those of
    them that it serves now: each shard is asked, and one that does not answer within a second serves none.

    \b
    JSON: {"shards": [{"id": "s1", "address": "127.0.0.1:9101", "wanted": "active", "alive": true, "slots": 86,
                 "serving": 86}, ...],
           "controller": "s1" or null, "slots": 256, "map": whether the slots are shared out,
           "slots_serving": 256, "all_serve": whether each slot is served by its primary}

    \b
    Examples:
      tally status
      tally status --etcd 10.0.0.1:2379 --output json

    Exit status: 0 all slots serve, 1 some do not, or etcd does not answer.
    """  # noqa: D301 - \b is how click keeps lines apart.
    where = _find(etcd, cluster, access)
    report = status_report(*asyncio.run(_look(where)))
    say(render_json(report) if output == "json" else render_table(report))
    raise SystemExit(0 if report.all_serve else 1)


def _find(etcd: str | None, cluster: str | None, access: dict[str, Any]) -> Named:
    if etcd:
        return named(etcd, cluster or "default", access)
    left = Remembered.load(_DATA_OF_UP / FILE_NAME)
    if left is None:
        raise click.UsageError("say which etcd with --etcd host:port or TALLY_ETCD; there is no ./data of `tally up`")
    return named(left.etcd, cluster or left.cluster, access)


async def _look(where: Named) -> tuple[ClusterState, Mapping[str, Mapping[int, int] | None]]:
    """Return what etcd says, and what each member says that it serves."""
    async with where.connect() as etcd:
        state = ClusterState.from_etcd(where.keys, (await etcd.read_prefix(where.keys.prefix)).found)
    answers = await asyncio.gather(
        *(_ask(state.config.uuid, shard, member.address) for shard, member in state.members.items())
    )
    return state, dict(zip(state.members, answers, strict=True))


async def _ask(cluster: str, shard: str, address: str) -> Mapping[int, int] | None:
    async with open_channel(address) as channel:
        stub: node_pb2_grpc.NodeAsyncStub = node_pb2_grpc.NodeStub(channel)
        return await serving_slots(cluster, shard, stub, STATUS_TIMEOUT_S)
