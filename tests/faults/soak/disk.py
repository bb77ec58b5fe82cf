"""Disks that are slow, fail, lose what was not flushed, or give back something else; a directory that is deleted."""

import asyncio
import shutil
from typing import Final

from shard.storage.disk import DISK_MAX_S
from tests.faults.soak.deck import Kind
from tests.faults.soak.ground import LIVES_ON, PRELOADED, WIRED, Ground
from tests.support import damage
from tests.support.damage import Damage
from tests.support.supervised import times_of
from tests.support.waiting import until

_ENDS_S: Final = 30.0
_NOTICED_S: Final = 40.0
_FLUSH_MS: Final = (20, 200, 5_000)
_HANGS_MS: Final = 30_000
_TO_THE_LOG: Final = (damage.zero_a_block_of_the_log, damage.flip_a_bit_of_the_log, damage.cut_the_log)
_FIRST: Final = (WIRED, PRELOADED)  # Those that are there from the beginning have something to damage.


async def slow_flushes(ground: Ground) -> None:
    ms = ground.chance.choice(_FLUSH_MS)
    ground.says(f"each fsync of {PRELOADED} takes {ms} ms")
    ground.shims.disk.slow(ms)
    try:
        await ground.a_while()
    finally:
        ground.shims.disk.slow(0)


async def flush_fails(ground: Ground) -> None:
    """It ends by itself, and a supervisor starts it."""
    before = times_of(PRELOADED, ground.ends)
    ground.says(f"a flush of {PRELOADED} fails")
    ground.shims.disk.fail_once()
    await until(lambda: times_of(PRELOADED, ground.ends) > before, within_s=_ENDS_S)
    assert ground.shims.disk.has_failed


async def flush_hangs(ground: Ground) -> None:
    """It ends by itself when that lasts too long."""
    with ground.away(PRELOADED):  # Its start needs flushes too.
        ground.says(f"each fsync of {PRELOADED} takes {_HANGS_MS // 1000} s")
        ground.shims.disk.slow(_HANGS_MS)
        try:
            await until(lambda: PRELOADED in ground.cluster.ended(), within_s=DISK_MAX_S + _ENDS_S)
        finally:
            ground.shims.disk.slow(0)
        ground.cluster.restart(PRELOADED)


async def power_cut(ground: Ground) -> None:
    with ground.away(PRELOADED):
        ground.cluster.kill(PRELOADED)
        data = ground.cluster.data(PRELOADED)
        lost = await asyncio.to_thread(ground.shims.disk.power_cut, data, ground.chance)
        ground.says(f"power cut of {PRELOADED}, {lost} bytes lost")
        await ground.a_while()
        ground.cluster.restart(PRELOADED)


async def damage_log(ground: Ground) -> None:
    await _damaged(ground, ground.chance.choice(_FIRST), ground.chance.choice(_TO_THE_LOG))


async def damage_table(ground: Ground) -> None:
    name = ground.chance.choice(_FIRST)
    with ground.away(name):  # A start puts what was in the log into a table.
        ground.cluster.kill(name)
        ground.cluster.restart(name)
    await ground.is_back()
    await _damaged(ground, name, damage.flip_a_bit_of_a_table)


async def delete_directory(ground: Ground) -> None:
    name = ground.chance.choice(ground.mortal())
    ground.says(f"SIGKILL of {name}, and its directory is deleted")
    with ground.away(name):
        ground.cluster.kill(name)
        await asyncio.to_thread(shutil.rmtree, ground.cluster.data(name))
        await ground.a_while()
        ground.cluster.restart(name)


async def _damaged(ground: Ground, name: str, kind: Damage) -> None:
    """Kill and damage it; it is started again until it has noticed, so that no two copies are damaged at once."""
    assert name != LIVES_ON
    since = ground.log_end(name)
    with ground.away(name):
        ground.cluster.kill(name)
        ground.says(f"{name}: {kind(ground.cluster.data(name), ground.chance)}")
        await ground.a_while()
    await until(lambda: "database_set_aside" in since(), within_s=_NOTICED_S)


KINDS: Final = (
    Kind("log damaged", 2, damage_log, takes_s=10.0),
    Kind("table damaged", 1, damage_table, takes_s=20.0),
    Kind("directory deleted", 2, delete_directory),
)
KINDS_BY_SHIM: Final = (
    Kind("fsync slow", 2, slow_flushes),
    Kind("fsync error", 2, flush_fails),
    Kind("fsync hangs", 1, flush_hangs, takes_s=30.0),
    Kind("power cut", 3, power_cut),
)
