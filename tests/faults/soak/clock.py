"""The wall clock of one shard, hours ahead or behind, or stuck, and then right again."""

from typing import Final

from tests.faults.soak.deck import Kind
from tests.faults.soak.ground import PRELOADED, Ground

_HOUR_S: Final = 3600.0


async def wrong(ground: Ground) -> None:
    clock, hours = ground.shims.clock, ground.chance.choice((-5, -2, 0, 2, 5))
    if hours:
        ground.says(f"the clock of {PRELOADED} is {abs(hours)} hours {'ahead' if hours > 0 else 'behind'}")
        clock.ahead(hours * _HOUR_S)
    else:
        ground.says(f"the clock of {PRELOADED} is stuck")
        clock.stuck()
    try:
        await ground.a_while()
    finally:
        clock.ahead(0)


KINDS_BY_SHIM: Final = (Kind("clock wrong", 2, wrong),)
