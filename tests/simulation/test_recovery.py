"""etcd loses its data while all else goes wrong too, and the map is recovered: no promise is broken."""

import os
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Final

import pytest

from tally.command.recovery import decision, readiness
from tally.command.recovery.decision import CopyHead, Recovered
from tests.simulation.cluster import Cluster
from tests.simulation.recoverer import Recoverer
from tests.simulation.test_seeds import first_seed
from tests.simulation.world import Broken

SEEDS: Final = max(50, int(os.environ.get("TALLY_SIM_SEEDS", "5000")) // 50)


def run_lost(seed: int) -> Counter[str]:
    """Run a seed in which etcd is wiped at some time, and recovered some time after it."""
    cluster, chance = Cluster(seed), Random(f"{seed} lost")
    recoverer = Recoverer(cluster)
    lost_at = chance.uniform(0.5, 9.0)
    cluster.world.after(lost_at, setattr, cluster.etcd, "lost", True)
    cluster.world.after(lost_at + chance.uniform(0.1, 4.0), recoverer.begin)
    return cluster.run()


def run_some(first: int, seeds: int) -> Counter[str]:
    """Run some seeds; raise ``Broken`` with the seed."""
    totals = Counter[str]()
    for seed in range(first, first + seeds):
        try:
            found = run_lost(seed)
            # Or more: one that was done, and was not told so, is run again.
            assert found["recoveries"] >= 1, "the map was not recovered"
            totals.update(found)
        except (Broken, AssertionError) as exc:
            raise Broken(f"seed {seed}: {exc}") from exc
    return totals


@pytest.mark.timeout(1800)
def test_lost_map_is_recovered_and_no_promise_is_broken() -> None:
    totals = run_some(first_seed(), SEEDS)
    assert totals["recoveries begun"] > SEEDS  # Some were broken off.
    assert totals["copies behind at recoveries"] > 0
    assert totals["acknowledged events"] >= 100 * SEEDS


def any_copy(patch: pytest.MonkeyPatch) -> None:
    """Take each copy for one that is in sync."""

    def all_in_sync(*args: object, **more: object) -> Recovered:
        found = right(*args, **more)  # type: ignore[arg-type] # As they came.
        heads: dict[int, dict[str, CopyHead]] = args[2]  # type: ignore[assignment]
        rows = {
            slot: row.__class__(row.epoch, row.primary, {name: one.incarnation for name, one in heads[slot].items()})
            for slot, row in found.rows.items()
        }
        return found._replace(rows=rows)

    right = decision.recovered
    patch.setattr(decision, "recovered", all_in_sync)


def no_fence(patch: pytest.MonkeyPatch) -> None:
    """Ask for heads in an epoch that is over."""
    patch.setattr(readiness, "fences_above", list)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("plant", [any_copy, no_fence])
def test_mistake_in_the_recovery_is_found(plant: Callable[[pytest.MonkeyPatch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        with pytest.raises(Broken):
            run_some(0, 400)
