"""What a monitor reads of a shard: names that stay, and a text that says what each number means."""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from shard.engine.redundancy import RedundancyFigures
from shard.figures import Figures, ShardCollector
from tally.cluster.planning.standing import Told, standing
from tally.cluster.state import ClusterState
from tests.support import cluster_values

FIGURES = Figures(
    RedundancyFigures(slots_primary=86, single_copy_s=12.5, copies_missing=3, clones=4, catch_ups=5, terms_refused=6),
    slots_serving=85,
    queued_events=7,
    set_aside=2,
    disk_used=0.25,
    refusing={"few_copies": 3, "disk_full": 1},
)


def page(figures: Figures) -> str:
    registry = CollectorRegistry()
    registry.register(ShardCollector(lambda: figures))
    return generate_latest(registry).decode()


def told(figures: Figures) -> Iterator[tuple[str, float]]:
    for family in text_string_to_metric_families(page(figures)):
        assert family.documentation, family.name
        for sample in family.samples:
            labels = ",".join(sample.labels.values())
            yield f"{sample.name} {labels}".strip(), sample.value


def test_each_figure_has_its_name() -> None:
    assert dict(told(FIGURES)) == {
        "tally_slot_seconds_on_single_copy_total": 12.5,
        "tally_copies_missing": 3,
        "tally_clones_total": 4,
        "tally_catch_ups_total": 5,
        "tally_terms_refused_total": 6,
        "tally_slots_primary": 86,
        "tally_slots_serving": 85,
        "tally_slots_refusing disk_full": 1,
        "tally_slots_refusing few_copies": 3,
        "tally_queued_events": 7,
        "tally_events_set_aside_total": 2,
        "tally_disk_used_ratio": 0.25,
    }


def test_controller_tells_of_the_whole_cluster() -> None:
    state = cluster_values.state(mapped=True)
    answers = {"s0": Told({2: 1, 5: 1}, {5: "disk_full"}), "s1": Told({0: 1, 3: 1, 6: 1}), "s2": None}
    found = {name: value for name, value in told_by(state, answers) if name.startswith("tally_cluster_")}
    assert found == {
        "tally_cluster_slots": 8,
        "tally_cluster_slots_unserved": 3,
        "tally_cluster_slots_unwritable": 4,
        "tally_cluster_slots_refusing disk_full": 1,
        "tally_cluster_copies_wanted": 8,
        "tally_cluster_copies_live": 5,
        "tally_cluster_copies_missing": 3,
    }


def told_by(state: ClusterState, answers: Mapping[str, Told | None]) -> Iterator[tuple[str, float]]:
    return told(FIGURES._replace(cluster=standing(state, answers)))


def test_a_disk_that_nobody_has_looked_at_is_not_told_as_empty() -> None:
    assert "tally_disk_used_ratio" not in dict(told(FIGURES._replace(disk_used=None)))
