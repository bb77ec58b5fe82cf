"""The internal service of a cluster's shards, as its own processes reach it, and as strangers do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc.aio

from tally.client.channel import SECRET_HEADER, open_channel, peer_metadata
from tally.cluster.etcd import Etcd, EtcdSettings
from tally.cluster.keys import Keys
from tally.cluster.state import ClusterState
from tests.support.cluster import Cluster

WRONG: Final = "0" * 64


async def state_of(cluster: Cluster) -> ClusterState:
    """Return what etcd says of a cluster; its secret is in it."""
    etcd, keys = Etcd(EtcdSettings(endpoints=(cluster.etcd.endpoint,))), Keys(cluster.name)
    try:
        return ClusterState.from_etcd(keys, (await etcd.read_prefix(keys.prefix)).found)
    finally:
        await etcd.close()


@asynccontextmanager
async def channel_to_peer(cluster: Cluster, shard: str) -> AsyncIterator[grpc.aio.Channel]:
    """Give a channel to the internal service of a shard."""
    async with open_channel(cluster.peer_address(shard)) as channel:
        yield channel


def offering(state: ClusterState, shard: str, *secrets: str, sender: str = "") -> grpc.aio.Metadata:
    """Return what goes with a call of somebody who knows all of a cluster but its secret, and offers others."""
    known = [(key, value) for key, value in peer_metadata(state, shard, sender) if key != SECRET_HEADER]
    return grpc.aio.Metadata(*known, *((SECRET_HEADER, one) for one in secrets))
