"""What the controller tells the shards besides the map: hints, in the background, that may be lost without harm.

Invariants:
  * a hint delays nothing that the controller does, and its failure ends nothing;
  * of the map, one hint is under way at most, and one more is due then;
  * of switches, one call to each primary is under way at most; the next plan repeats what is still due.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog

from tally.cluster.slot_map import SlotMap
from tally.cluster.trouble import Trouble
from tally.errors import TallyError, Unavailable
from tally.tasks import aside

log = structlog.get_logger()

HINT_S: Final = 2.0

GiveSwitches = Callable[[str, str, Mapping[int, str]], Awaitable[None]]
"""(address, shard, slot -> to whom that shard should hand it over)."""


def by_primary(slot_map: SlotMap, switches: Mapping[int, str]) -> dict[str, dict[int, str]]:
    """Return the switches by who is to be asked for them."""
    grouped: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for slot, shard in sorted(switches.items()):
        grouped[slot_map.rows[slot].primary][slot] = shard
    return dict(grouped)


class MapHints:
    """Says again and again that there is a new map; two words in a row become one. Belongs to one event loop."""

    def __init__(self, hint: Callable[[], Awaitable[None]]) -> None:
        """Prepare; ``hint`` may raise anything, and is given up after ``HINT_S``."""
        self._hint = hint
        self._due = False
        self._task: asyncio.Task[None] | None = None

    def give(self) -> None:
        """Give a hint soon: at once, or when the one that is under way has ended."""
        self._due = True
        if self._task is None or self._task.done():
            self._task = aside(self._run(), name="map hint")

    async def close(self) -> None:
        """End the hint that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._due:
            self._due = False
            try:
                async with asyncio.timeout(HINT_S):
                    await self._hint()
            except Exception as exc:  # noqa: BLE001 - Whatever it was, the shards read the map by themselves.
                log.warning("map_hint_failed", reason=repr(exc))


class SwitchHints:
    """Asks primaries to hand slots over. Belongs to one event loop."""

    def __init__(self, give: GiveSwitches, repeat_s: float) -> None:
        """Prepare; the same switches are given to a primary once in ``repeat_s``."""
        self._give = give
        self._repeat_s = repeat_s
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._given: dict[str, tuple[float, Mapping[int, str]]] = {}
        self._troubles: dict[str, Trouble] = {}

    def give(self, shard: str, address: str, switches: Mapping[int, str]) -> None:
        """Give them to the primary ``shard``, unless a call to it is under way or said the same just now."""
        now = asyncio.get_running_loop().time()
        at, before = self._given.get(shard, (0.0, {}))
        if shard in self._under_way or (before == switches and now - at < self._repeat_s):
            return
        self._given[shard] = (now, switches)
        self._under_way[shard] = aside(self._give_one(shard, address, switches), name=f"switches of {shard}")

    async def close(self) -> None:
        """End the calls that are under way."""
        calls = list(self._under_way.values())
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def _give_one(self, shard: str, address: str, switches: Mapping[int, str]) -> None:
        trouble = self._troubles.setdefault(shard, Trouble(f"switches of {shard}"))
        try:
            async with asyncio.timeout(HINT_S):
                await self._give(address, shard, switches)
        except TallyError as exc:
            trouble.met(exc)
        except Exception as exc:  # noqa: BLE001 - Whatever it was, the next plan asks again.
            trouble.met(Unavailable(repr(exc)))
        else:
            trouble.over()
        finally:
            del self._under_way[shard]
