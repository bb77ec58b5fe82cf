"""What ``tally status`` says of a cluster, and waiting until nothing moves any more."""

import asyncio
import json
import time
from typing import Any, Final

from tests.integration.operations.load import show
from tests.support import commands
from tests.support.cluster import Cluster

REST_S: Final = 120.0
_POLL_S: Final = 0.5


def where(cluster: Cluster) -> tuple[str, ...]:
    """Return the options by which a command finds it."""
    return ("--etcd", cluster.etcd.endpoint, "--cluster", cluster.name)


async def status(cluster: Cluster) -> dict[str, Any]:
    """Return what ``tally status`` says."""
    done = await commands.tally("status", *where(cluster), "--output", "json")
    assert done.out, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


async def run(cluster: Cluster, *arguments: str) -> str:
    """Run a command that must succeed; return what it says."""
    done = await commands.tally(*arguments, *where(cluster))
    assert done.status == 0, done.err
    return done.out


def at_rest(found: dict[str, Any], shards: int, copies: int) -> bool:
    """Tell whether so many shards keep so many copies of each slot, all serve, and nothing is on its way."""
    kept = sum(shard["copies"] for shard in found["shards"])
    return bool(
        sum(shard["alive"] for shard in found["shards"]) == shards
        and found["all_serve"]
        and found["moves"] == found["copies_missing"] == 0
        and found["copies_at_place"] == found["copies_to_be"] == kept == found["slots"] * copies
        and found["not_writable"] == found["without_live_copy"] == []
    )


def primaries_even(found: dict[str, Any]) -> bool:
    """Tell whether each shard that has copies is primary of its share of the slots; see ``is_fair``."""
    having = [shard for shard in found["shards"] if shard["copies"]]
    return all(is_fair(shard["slots"], found["slots"] / len(having)) for shard in having)


def is_fair(has: int, share: float) -> bool:
    """Tell whether it is within 10 % or one slot of it."""
    return abs(has - share) <= max(1.0, 0.1 * share)


async def rest(cluster: Cluster, *, shards: int, copies: int, even: bool = True) -> dict[str, Any]:
    """Wait until nothing moves any more and, if ``even``, all are primaries of as much; return what is said then."""
    began = time.monotonic()
    while True:
        found = await status(cluster)
        if at_rest(found, shards, copies) and (not even or primaries_even(found)):
            show(f"at rest after {time.monotonic() - began:.1f} s: {summary(found)}")
            return found
        assert time.monotonic() - began < REST_S, f"no rest after {REST_S} s: {json.dumps(found)}"
        await asyncio.sleep(_POLL_S)


def summary(found: dict[str, Any]) -> str:
    """Say who has what."""
    return ", ".join(f"{one['id']} {one['slots']} primaries of {one['copies']} copies" for one in found["shards"])


def check_fair(found: dict[str, Any], copies: int) -> None:
    """See that each shard has its share of copies and of primaries."""
    shards = found["shards"]
    for shard in shards:
        assert is_fair(shard["copies"], found["slots"] * copies / len(shards)), summary(found)
        assert is_fair(shard["slots"], found["slots"] / len(shards)), summary(found)
        assert shard["serving"] == shard["slots"], summary(found)
