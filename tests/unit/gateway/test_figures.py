"""What a gateway tells of the whole cluster: what it knows now, or nothing."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry

from gateway import figures
from gateway.figures import GatewayCollector
from tally.cluster.planning.standing import Standing, standing
from tests.support import cluster_values

NOTHING_SERVES = standing(cluster_values.state(mapped=True), {})


async def unserved(collector: GatewayCollector) -> float | None:
    """Return how many slots are unserved, as it tells a monitor that asks now."""
    await collector.look()
    registry = CollectorRegistry()
    registry.register(collector)
    assert registry.get_sample_value("tally_http_connections") == 0
    return registry.get_sample_value("tally_cluster_slots_unserved")


async def never() -> None:
    """Give no answer."""
    await asyncio.Event().wait()


async def fails() -> None:
    """Have a bug."""
    raise KeyError("s1")


async def test_cluster_is_told_while_it_is_known_and_an_old_look_is_not_told_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(figures, "LOOK_S", 0.01)

    async def known() -> Standing:
        return NOTHING_SERVES

    backends: list[Callable[[], Awaitable[Standing | None]]] = [known, never, known, fails]

    async def ask() -> Standing | None:
        return await backends.pop(0)()

    collector = GatewayCollector({}, list, lambda: 0, ask)
    assert [await unserved(collector) for _ in range(4)] == [8, None, 8, None]
