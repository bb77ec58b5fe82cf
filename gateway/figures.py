"""What a gateway tells a monitor: names, units and meanings."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sized
from typing import Final

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tally.cluster.planning.standing import Standing
from tally.monitor.cluster_figures import cluster_figures
from tally.monitor.names import events_set_aside

LOOK_S: Final = 2.0  # Shards are given half a second; this process may be busy.

log = structlog.get_logger()


class GatewayCollector(Collector):
    """Tells the figures as they are when somebody asks."""

    def __init__(
        self,
        answered: Mapping[tuple[str, int], int],
        connections: Callable[[], Sized],
        set_aside: Callable[[], int],
        standing: Callable[[], Awaitable[Standing | None]],
    ) -> None:
        """Prepare.

        Args:
            answered: How many requests were answered, by method and status; goes on growing.
            connections: Returns those that are open.
            set_aside: Returns how often an event was set aside.
            standing: Asks how the whole cluster stands.
        """
        self._answered = answered
        self._connections = connections
        self._set_aside = set_aside
        self._standing = standing
        self._found: Standing | None = None

    async def look(self) -> None:
        """Ask how the cluster stands, for the figures that are given next; what does not come soon is not known."""
        self._found = None
        try:
            async with asyncio.timeout(LOOK_S):
                self._found = await self._standing()
        except TimeoutError:
            pass
        except Exception:  # A bug of ours; the other figures are given all the same.
            log.exception("cluster_look_failed")

    def collect(self) -> Iterator[Metric]:
        """Give all figures."""
        requests = CounterMetricFamily(
            "tally_http_requests",
            "Well-formed requests that were answered; status 503: overload, or a part of the cluster is away.",
            labels=("method", "status"),
        )
        for (method, status), count in sorted(self._answered.items()):
            requests.add_metric((method, str(status)), count)
        yield requests
        yield GaugeMetricFamily(
            "tally_http_connections", "Connections of HTTP clients that are open.", value=len(self._connections())
        )
        yield events_set_aside(self._set_aside())
        yield from cluster_figures(self._found)
