"""The figures of one process: what every process has, what it adds itself, and the door where one asks for them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from tally.address import Address
from tally.monitor import loop_lag
from tally.monitor.door import MetricsDoor, nothing
from tally.monitor.names import LogCollector
from tally.tasks import kept_up

# From what nobody notices to what callers take for a dead process.
_LAG_BUCKETS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


@asynccontextmanager
async def monitored(
    address: Address | None, make: Callable[[], Collector], *, before: Callable[[], Awaitable[None]] = nothing
) -> AsyncIterator[Address | None]:
    """Serve ``GET /metrics`` beside the block; gives where.

    Args:
        address: Where to listen; None: nowhere, and nothing is measured.
        make: Makes what tells the figures of the process's own; called only if somebody can ask for them.
        before: Awaited before the figures are given, each time; takes a bounded time, and raises nothing.

    Raises:
        ConfigError: Nothing can listen there.
    """
    if address is None:
        yield None
        return
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    lag = Histogram(
        "tally_event_loop_lag_seconds",
        "How many seconds later than due the event loop woke up; measured 20 times a second.",
        registry=registry,
        buckets=_LAG_BUCKETS_S,
    )
    registry.register(LogCollector())
    registry.register(make())
    door = MetricsDoor(lambda: generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4, before=before)
    listening = await door.listen(address)
    watching = kept_up(lambda: loop_lag.watch(lag.observe), name="loop lag")
    try:
        yield listening
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await door.close()
