"""The wall clock of one shard, hours ahead or behind, or stuck, and then right again."""

from typing import Final

from tests.faults.soak.ground import PRELOADED, Ground, Kind

_HOUR_S: Final = 3600.0


async def wrong(ground: Ground) -> None:
    clock, hours = ground.shims.clock, ground.chance.choice((-5, -2, 0, 2, 5))
    ground.says(f"the clock of {PRELOADED} is {f'{hours} hours ahead' if hours else 'stuck'}")
    if hours:
        clock.ahead(hours * _HOUR_S)
    else:
        clock.stuck()
    try:
        await ground.a_while()
    finally:
        clock.ahead(0)


KINDS_BY_SHIM: Final = (Kind("clock wrong", 2, wrong),)
