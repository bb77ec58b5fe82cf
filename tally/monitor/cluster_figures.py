"""What a monitor is told of the whole cluster, under the same names by whoever knows it. Pure."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from tally.cluster.planning.standing import Standing


def cluster_figures(found: Standing | None) -> Iterator[Metric]:
    """Give the figures; none at all where the cluster is not known, for an old number would pass for a new one."""
    if found is None:
        return
    yield _gauge("slots", "Slots of the cluster.", found.slots)
    yield _gauge("slots_unserved", "Slots that no primary serves: their requests wait, then get 503.", found.unserved)
    yield _gauge(
        "slots_unwritable",
        "Slots that take no events: not served, too few copies are there, or their primary refuses all.",
        found.unwritable,
    )
    refusing = GaugeMetricFamily(
        "tally_cluster_slots_refusing",
        "Slots that are served, but in which something is refused, or was within the last 10 seconds.",
        labels=["reason"],
    )
    for reason, slots in found.refusing.items():
        refusing.add_metric([reason], len(slots))
    yield refusing
    yield _gauge("copies_wanted", "Copies that all slots together are to have.", found.copies_wanted)
    yield _gauge(
        "copies_live",
        "Copies in sync, on shards that answer and have them; more than wanted while some move.",
        found.copies_live,
    )
    yield _gauge(
        "copies_missing", "Copies that slots have less than wanted, on shards that answer.", found.copies_missing
    )


def _gauge(name: str, meaning: str, value: "int | tuple[int, ...]") -> GaugeMetricFamily:
    number = value if isinstance(value, int) else len(value)
    return GaugeMetricFamily(f"tally_cluster_{name}", meaning, value=number)
