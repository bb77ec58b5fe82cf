"""What a gateway tells a monitor: names, units and meanings."""

from collections.abc import Callable, Iterator, Mapping, Sized

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tally.monitor.names import events_set_aside


class GatewayCollector(Collector):
    """Tells the figures as they are when somebody asks."""

    def __init__(
        self, answered: Mapping[tuple[str, int], int], connections: Callable[[], Sized], set_aside: Callable[[], int]
    ) -> None:
        """Prepare.

        Args:
            answered: How many requests were answered, by method and status; goes on growing.
            connections: Returns those that are open.
            set_aside: Returns how often an event was set aside.
        """
        self._answered = answered
        self._connections = connections
        self._set_aside = set_aside

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
