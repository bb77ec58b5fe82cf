"""The controller's health calls: whom it asks, what they answered last, and whether that is still to be believed.

Invariants:
  * at most one call to a shard is under way, so its answers come in the order of the calls;
  * an answer is as old as its call: what was asked more than ``BELIEVED_S`` ago counts as silence;
  * a call that failed is silence at once, whatever the shard said before;
  * who was not asked lately is not silent but unknown: it is we who were late.

What silence means is decided in ``health.py``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, NamedTuple

import structlog

from tally.cluster.planning.health import ShardHealth
from tally.tasks import aside

log = structlog.get_logger()

HEALTH_S: Final = 0.5
CALL_S: Final = 1.0
BELIEVED_S: Final = 2.0

AskHealth = Callable[[str, str], Awaitable[ShardHealth | None]]
"""(shard, address) -> its answer, or None; never raises for a shard that is silent."""


class _Answer(NamedTuple):
    asked_at: float
    health: ShardHealth | None

    def outdated(self, now: float) -> bool:
        """Whether it says how the shard was, not how it is; silence stays silence until it is broken."""
        return self.health is not None and now - self.asked_at > BELIEVED_S


class HealthAnswers:
    """What each shard answered last. Pure: the time is an argument."""

    def __init__(self) -> None:
        """Begin without any answer."""
        self._answers: dict[str, _Answer] = {}

    def note(self, shard: str, asked_at: float, health: ShardHealth | None) -> bool:
        """Take in how a call ended; return whether it makes a difference."""
        before = self._answers.get(shard)
        self._answers[shard] = _Answer(asked_at, health)
        return before is None or before.health != health or before.outdated(asked_at)

    def missing(self, shards: Iterable[str]) -> bool:
        """Whether there are some of which not one call has ended yet."""
        return any(shard not in self._answers for shard in shards)

    def unknown(self, shards: Iterable[str], now: float) -> bool:
        """Whether there are some that were not asked yet, or answered and were not asked again since.

        So it is when this process did not run for a while: others would look dead for that.
        """
        return any(shard not in self._answers or self._answers[shard].outdated(now) for shard in shards)

    def believed(self, now: float) -> dict[str, ShardHealth | None]:
        """Return what the plan may go by."""
        return {shard: None if answer.outdated(now) else answer.health for shard, answer in self._answers.items()}


class HealthCalls:
    """Asks the shards, each by itself and beside all else. Belongs to one event loop."""

    def __init__(self, ask: AskHealth, on_difference: Callable[[], None]) -> None:
        """Prepare; ``on_difference`` is called when a shard answers otherwise than before."""
        self._ask = ask
        self._on_difference = on_difference
        self._under_way: dict[str, asyncio.Task[ShardHealth | None]] = {}
        self.answers = HealthAnswers()

    def forget(self) -> None:
        """Begin anew, with what is asked from now on; what calls that are under way bring is not counted."""
        self.answers = HealthAnswers()

    def ask_all(self, addresses: Mapping[str, str]) -> None:
        """Begin a call to each shard, unless one is under way."""
        for shard, address in addresses.items():
            if shard not in self._under_way:
                self._under_way[shard] = aside(self._ask_one(shard, address, self.answers), name=f"health of {shard}")

    async def look(self, shard: str, address: str) -> ShardHealth | None:
        """Ask one shard now; return its answer to a call that begins after this, None if it is silent.

        Takes twice ``CALL_S`` at most: a call that is under way must end first. Who looks at the same time shares one.
        """
        before = self._under_way.get(shard)
        if before is not None:
            await asyncio.wait([before])
            if before.cancelled():
                return None  # All of this ends.
        if shard not in self._under_way:
            self.ask_all({shard: address})
        call = self._under_way[shard]
        await asyncio.wait([call])
        return None if call.cancelled() else call.result()

    async def close(self) -> None:
        """End all calls."""
        calls = list(self._under_way.values())
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def _ask_one(self, shard: str, address: str, answers: HealthAnswers) -> ShardHealth | None:
        asked_at = asyncio.get_running_loop().time()
        health = None
        try:
            async with asyncio.timeout(CALL_S):
                health = await self._ask(shard, address)
        except TimeoutError:
            pass  # Silence.
        except Exception:  # A bug of ours or of the shard's; as controllers, all shards would die of it in turn.
            log.exception("health_call_failed", shard=shard, address=address)
        finally:
            del self._under_way[shard]
        if answers.note(shard, asked_at, health):
            self._on_difference()
        return health
