"""etcd that is killed, frozen or compacted, and a lease that an operator takes away."""

import asyncio
from typing import Final

from tests.faults.soak.deck import Kind
from tests.faults.soak.ground import Ground
from tests.support.etcd import compact, single
from tests.support.registered import keys, revoke_lease
from tests.support.waiting import until


async def kill(ground: Ground) -> None:
    etcd = ground.cluster.etcd
    ground.says("SIGKILL of etcd")
    await asyncio.to_thread(etcd.stop)
    await ground.a_while()
    await asyncio.to_thread(etcd.start)


async def freeze(ground: Ground) -> None:
    ground.says("SIGSTOP of etcd")
    ground.cluster.etcd.freeze()
    try:
        await ground.a_while()
    finally:
        ground.cluster.etcd.thaw()


async def revoke(ground: Ground) -> None:
    """Take the lease of one shard; it may be the controller's."""
    etcd, name = ground.cluster.etcd, ground.chance.choice(ground.cluster.shards)

    async def registered() -> bool:
        return bool(await keys(etcd, f"alive/{name}"))

    await until(registered)  # A fault before may have cost it.
    ground.says(f"the lease of {name} is revoked")
    await revoke_lease(etcd, name)
    await until(registered)


async def forget(ground: Ground) -> None:
    ground.says("etcd is compacted and defragmented")
    await asyncio.to_thread(compact, single(ground.cluster.etcd))


KINDS: Final = (
    Kind("etcd killed", 2, kill),
    Kind("etcd frozen", 1, freeze),
    Kind("lease revoked", 2, revoke),
    Kind("etcd compacted", 1, forget),
)
