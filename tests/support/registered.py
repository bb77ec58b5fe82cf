"""What a cluster keeps in etcd, as an operator sees it with etcdctl, and takes it away."""

import asyncio
import json
from typing import Any

from tests.support.etcd import AnyEtcd


async def control(etcd: AnyEtcd, *arguments: str) -> str:
    """Do what an operator does; meanwhile the test goes on."""
    return await asyncio.to_thread(etcd.control, *arguments)


async def keys(etcd: AnyEtcd, prefix: str) -> list[dict[str, Any]]:
    """Return the keys of the cluster that begin with ``prefix``, as etcd tells them."""
    said = json.loads(await control(etcd, "get", f"/tally/default/{prefix}", "--prefix", "--write-out=json"))
    found: list[dict[str, Any]] = said.get("kvs", [])
    return found


async def revoke_lease(etcd: AnyEtcd, shard: str) -> dict[str, Any]:
    """Take a shard's lease, and return the key that went with it."""
    told = json.loads(await control(etcd, "get", f"/tally/default/alive/{shard}", "--write-out=json"))
    (alive,) = told["kvs"]
    await control(etcd, "lease", "revoke", f"{alive['lease']:x}")
    found: dict[str, Any] = alive
    return found
