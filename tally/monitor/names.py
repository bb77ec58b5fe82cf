"""Figures that more than one kind of process tells, under one name."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tally import logs


class LogCollector(Collector):
    """Tells what is missing in the log of this process."""

    def collect(self) -> Iterator[Metric]:
        """Give all figures."""
        yield CounterMetricFamily(
            "tally_log_lines_dropped",
            "Lines of the log that were dropped because they could not be written, or not fast enough.",
            value=logs.dropped(),
        )
        yield CounterMetricFamily(
            "tally_log_lines_held_back",
            "Lines of the log that were not written because there were too many of their event.",
            value=logs.held_back(),
        )


def events_set_aside(count: int) -> CounterMetricFamily:
    """Give what a routed client set aside: that of a gateway, or of a shard that is asked by gRPC."""
    return CounterMetricFamily(
        "tally_events_set_aside",
        "Events that are refused for a while because shards died of them; each further death counts once more.",
        value=count,
    )
