"""What a shard tells a monitor: names, units and meanings. Pure: numbers go in."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shard.engine.redundancy import RedundancyFigures
from tally.cluster.planning.standing import Standing
from tally.monitor.cluster_figures import cluster_figures
from tally.monitor.names import events_set_aside


class Figures(NamedTuple):
    """The figures of one shard at one time.

    Attributes:
        redundancy: How safe its slots are.
        slots_serving: How many slots it serves as primary.
        queued_events: How many events wait for their op, or are in one that is not committed.
        set_aside: How often its own client set an event aside.
        refusing: Of how many slots that it serves it refuses something, by reason.
        disk_used: How much of the disk is used, 0 to 1; None before the first look.
        cluster: How the whole cluster stands; None if this shard is not the controller.
    """

    redundancy: RedundancyFigures
    slots_serving: int
    queued_events: int
    set_aside: int
    disk_used: float | None
    refusing: Mapping[str, int] = MappingProxyType({})
    cluster: Standing | None = None


class ShardCollector(Collector):
    """Tells the figures as they are when somebody asks."""

    def __init__(self, read: Callable[[], Figures]) -> None:
        """Prepare; ``read`` returns the figures of now."""
        self._read = read

    def describe(self) -> Iterator[Metric]:
        """Name nothing beforehand: there is one of these in a process, and nothing to read yet."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Give all figures."""
        return metrics_of(self._read())


def metrics_of(figures: Figures) -> Iterator[Metric]:
    """Give the figures with their names and units."""
    found = figures.redundancy
    yield CounterMetricFamily(
        "tally_slot_seconds_on_single_copy",
        "Slot-seconds in which a slot that this shard is primary of had one copy in sync although more are wanted.",
        value=found.single_copy_s,
    )
    yield GaugeMetricFamily(
        "tally_copies_missing",
        "Copies wanted but not in sync, over the slots that this shard is primary of.",
        value=found.copies_missing,
    )
    yield CounterMetricFamily(
        "tally_clones", "Copies of slots that came to this shard whole, from their primaries.", value=found.clones
    )
    yield CounterMetricFamily(
        "tally_catch_ups",
        "Copies of slots on this shard that came back by the ops that they had missed.",
        value=found.catch_ups,
    )
    yield CounterMetricFamily(
        "tally_terms_refused",
        "Terms of this shard as primary that ended because another copy knew a higher epoch before the map here did.",
        value=found.terms_refused,
    )
    yield GaugeMetricFamily(
        "tally_slots_primary", "Slots that this shard is primary of, as the map says.", value=found.slots_primary
    )
    yield GaugeMetricFamily(
        "tally_slots_serving", "Slots that this shard serves as primary now.", value=figures.slots_serving
    )
    refusing = GaugeMetricFamily(
        "tally_slots_refusing",
        "Slots that this shard serves, but in which it refuses something, or did within the last 10 seconds.",
        labels=["reason"],
    )
    for reason, slots in sorted(figures.refusing.items()):
        refusing.add_metric([reason], slots)
    yield refusing
    yield GaugeMetricFamily(
        "tally_queued_events",
        "Events on this shard that wait for their op, or are in one that is not committed yet.",
        value=figures.queued_events,
    )
    yield events_set_aside(figures.set_aside)
    yield from cluster_figures(figures.cluster)
    if figures.disk_used is not None:
        yield GaugeMetricFamily(
            "tally_disk_used_ratio",
            "Used part of the disk that has this shard's data, 0 to 1, without what is reserved for root.",
            value=figures.disk_used,
        )
