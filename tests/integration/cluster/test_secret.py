"""Making a cluster's secret in a real etcd."""

import asyncio

import pytest

from tally.cluster.creation import create_if_absent, create_secret
from tally.cluster.etcd import Delete, Etcd, Put
from tally.cluster.keys import Keys
from tally.cluster.secret import ClusterSecret
from tally.errors import ClusterMissing
from tests.support.cluster_values import config


async def read(etcd: Etcd, keys: Keys) -> ClusterSecret:
    found = await etcd.read(keys.secret)
    assert found is not None
    return ClusterSecret.from_json(found.value, keys.secret)


async def test_cluster_is_made_with_a_secret_that_stays(etcd: Etcd, keys: Keys) -> None:
    assert (await create_if_absent(etcd, keys, config())).made
    drawn = await read(etcd, keys)
    again = await create_if_absent(etcd, keys, config())
    assert (again.made, again.secret) == (False, True)
    assert not await create_secret(etcd, keys)
    assert await read(etcd, keys) == drawn


async def test_cluster_of_an_older_version_gets_one_only_when_it_is_asked_for(etcd: Etcd, keys: Keys) -> None:
    await etcd.commit([], [Put(keys.config, config().to_json())])
    assert not (await create_if_absent(etcd, keys, config())).secret
    assert await etcd.read(keys.secret) is None
    made = await asyncio.gather(*(create_secret(etcd, keys) for _ in range(5)))
    assert sorted(made) == [False] * 4 + [True]


@pytest.mark.parametrize("value", ["", "{}", "null", '{"secret": "0123"}'])
async def test_what_is_no_secret_is_exchanged_for_one(etcd: Etcd, keys: Keys, value: str) -> None:
    await create_if_absent(etcd, keys, config())
    await etcd.commit([], [Put(keys.secret, value)])
    assert await create_secret(etcd, keys)
    await read(etcd, keys)


async def test_secret_is_replaced_by_another_one(etcd: Etcd, keys: Keys) -> None:
    await create_if_absent(etcd, keys, config())
    drawn = await read(etcd, keys)
    assert await create_secret(etcd, keys, replace=True)
    assert await read(etcd, keys) != drawn


async def test_without_a_cluster_no_secret_is_made(etcd: Etcd, keys: Keys) -> None:
    await etcd.commit([], [Delete(keys.config)])
    with pytest.raises(ClusterMissing):
        await create_secret(etcd, keys)
    assert await etcd.read(keys.secret) is None
