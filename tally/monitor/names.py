"""Figures that more than one kind of process tells, under one name."""

from prometheus_client.core import CounterMetricFamily


def events_set_aside(count: int) -> CounterMetricFamily:
    """Give what a routed client set aside: that of a gateway, or of a shard that is asked by gRPC."""
    return CounterMetricFamily(
        "tally_events_set_aside",
        "Events that are refused for a while because shards died of them; each further death counts once more.",
        value=count,
    )
