"""One shard whose network is cut, leads in one direction only, loses its connections, or is late or slow.

What is cut is silent, and healed after up to three leases. Ways to shards that were added stay open.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.faults.soak.deck import Kind
from tests.faults.soak.ground import LIVES_ON, PRELOADED, WIRED, Ground
from tests.support.cluster import GATEWAY
from tests.support.proxy import PASS, Line
from tests.support.wires import ETCD

_LATE: Final = Line(delay_s=0.2)
_SLOW: Final = Line(bytes_per_s=256_000 // 8)
_OTHER_SHARDS: Final = (LIVES_ON, PRELOADED)
_OTHERS: Final = (*_OTHER_SHARDS, GATEWAY, ETCD)


async def cut_off(ground: Ground) -> None:
    with _healed(ground):
        ground.says(f"{WIRED} is cut off from all")
        ground.wires.cut_off(WIRED)
        await ground.a_while()


async def cut_from_etcd(ground: Ground) -> None:
    with _healed(ground):
        ground.says(f"{WIRED} is cut off from etcd")
        ground.wires.cut(WIRED, ETCD)
        await ground.a_while()


async def cut_from_one(ground: Ground) -> None:
    other = ground.chance.choice((*_OTHER_SHARDS, GATEWAY))
    with _healed(ground):
        ground.says(f"{WIRED} is cut off from {other}")
        ground.wires.cut(WIRED, other)
        await ground.a_while()


async def mute(ground: Ground) -> None:
    """It hears, and nobody hears it; or one does not."""
    others = _some(ground)
    with _healed(ground):
        ground.says(f"{WIRED} is mute towards {', '.join(others)}")
        for other in others:
            ground.wires.block(WIRED, other)
        await ground.a_while()


async def deaf(ground: Ground) -> None:
    """It is heard, and hears nobody; or one not."""
    others = _some(ground)
    with _healed(ground):
        ground.says(f"{WIRED} is deaf towards {', '.join(others)}")
        for other in others:
            ground.wires.block(other, WIRED)
        await ground.a_while()


async def strand(ground: Ground) -> None:
    """Leave its connections half-open; whoever finds out connects anew."""
    ground.says(f"all connections of {WIRED} are dead")
    ground.wires.strand(WIRED)
    await ground.a_while()


async def late(ground: Ground) -> None:
    with _healed(ground):
        ground.says(f"{WIRED}: 200 ms later")
        ground.wires.all_are(_LATE)
        await ground.a_while()


async def slow(ground: Ground) -> None:
    with _healed(ground):
        ground.says(f"{WIRED}: 256 kbit/s")
        ground.wires.all_are(_SLOW)
        await ground.a_while()


@contextmanager
def _healed(ground: Ground) -> Iterator[None]:
    try:
        yield
    finally:
        ground.wires.heal()
        ground.wires.all_are(PASS)


def _some(ground: Ground) -> tuple[str, ...]:
    return _OTHERS if ground.chance.random() < 0.5 else (ground.chance.choice(_OTHER_SHARDS),)


KINDS: Final = (
    Kind("cut off from all", 2, cut_off),
    Kind("cut off from etcd", 1, cut_from_etcd),
    Kind("cut off from one", 2, cut_from_one),
    Kind("mute", 1, mute),
    Kind("deaf", 1, deaf),
    Kind("half-open connections", 2, strand),
    Kind("200 ms later", 1, late),
    Kind("256 kbit/s", 1, slow),
)
