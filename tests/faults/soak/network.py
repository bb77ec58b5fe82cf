"""One shard whose network is cut, leads in one direction only, loses its connections, or is late or slow.

What is cut is silent, and healed after up to three leases. Ways to shards that were added stay open.
"""

from collections.abc import Callable
from functools import partial
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
    await _for_a_while(ground, "is cut off from all", lambda: ground.wires.cut_off(WIRED))


async def cut_from_etcd(ground: Ground) -> None:
    await _for_a_while(ground, "is cut off from etcd", lambda: ground.wires.cut(WIRED, ETCD))


async def cut_from_one(ground: Ground) -> None:
    other = ground.chance.choice((*_OTHER_SHARDS, GATEWAY))
    await _for_a_while(ground, f"is cut off from {other}", lambda: ground.wires.cut(WIRED, other))


async def mute(ground: Ground) -> None:
    """It hears, and nobody hears it; or one does not."""
    others = _some(ground)
    await _for_a_while(
        ground, f"is mute towards {', '.join(others)}", *(partial(ground.wires.block, WIRED, other) for other in others)
    )


async def deaf(ground: Ground) -> None:
    """It is heard, and hears nobody; or one not."""
    others = _some(ground)
    await _for_a_while(
        ground, f"is deaf towards {', '.join(others)}", *(partial(ground.wires.block, other, WIRED) for other in others)
    )


async def strand(ground: Ground) -> None:
    """Leave its connections half-open; whoever finds out connects anew."""
    ground.says(f"all connections of {WIRED} are dead")
    ground.wires.strand(WIRED)  # Not healed: that would be another fault.
    await ground.a_while()


async def late(ground: Ground) -> None:
    await _for_a_while(ground, "is 200 ms late", lambda: ground.wires.all_are(_LATE))


async def slow(ground: Ground) -> None:
    await _for_a_while(ground, "has 256 kbit/s", lambda: ground.wires.all_are(_SLOW))


async def _for_a_while(ground: Ground, what: str, *acts: Callable[[], object]) -> None:
    ground.says(f"{WIRED} {what}")
    try:
        for act in acts:
            act()
        await ground.a_while()
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
