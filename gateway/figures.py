"""What a gateway tells a monitor: names, units and meanings."""

from collections.abc import Callable, Iterator, Mapping, Sized

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class GatewayCollector(Collector):
    """Tells the figures as they are when somebody asks."""

    def __init__(self, answered: Mapping[tuple[str, int], int], connections: Callable[[], Sized]) -> None:
        """Prepare.

        Args:
            answered: How many requests were answered, by method and status; goes on growing.
            connections: Returns those that are open.
        """
        self._answered = answered
        self._connections = connections

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
