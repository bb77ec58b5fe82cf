"""What a soak is judged by, and the supervisor that it shares its processes with."""

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import cast

import pytest

from tests.faults.resources import Growth, Sample, growth
from tests.faults.soak.deck import Deck, Kind
from tests.faults.soak.ground import Ground
from tests.faults.soak.report import Cost, worst_by_kind
from tests.support.cluster import Cluster
from tests.support.faulty_disk import FaultyDisk
from tests.support.supervised import End, supervised
from tests.support.waiting import until


class Processes:
    """What a supervisor sees of a cluster: who has ended; a start counts, and may be in vain."""

    def __init__(self, *, in_vain: bool = False) -> None:
        self.down: set[str] = set()
        self.starts: Counter[str] = Counter()
        self._in_vain = in_vain

    def ended(self) -> list[str]:
        return sorted(self.down)

    def status_of(self, name: str) -> int | None:
        return 1 if name in self.down else None

    def restart(self, name: str) -> None:
        self.starts[name] += 1
        if not self._in_vain:
            self.down.discard(name)


def test_growth_compares_the_first_steady_time_with_the_end_and_passes_over_peaks() -> None:
    samples = [
        *(Sample(at, 1_000.0, 900) for at in range(10)),  # Not steady yet.
        *(Sample(at, 50.0, 30) for at in range(10, 20)),
        Sample(20, 9_000.0, 900),
        *(Sample(at, 52.0, 31) for at in range(30, 40)),
        Sample(40, 800.0, 900),
    ]
    grown = growth(samples, steady_from_s=10, window_s=11)
    assert grown == Growth(50.0, 52.0, 30, 31)
    assert grown.memory_ratio == 52.0 / 50.0


def test_report_has_one_row_per_kind_with_its_worst_and_the_costliest_first() -> None:
    costs = [Cost("cut", 1.0, 4.0, 0.5), Cost("kill", 5.0, 2.0, 1.0), Cost("cut", 3.0, 1.0, 9.0)]
    assert worst_by_kind(costs) == [("kill", "1", "5.0", "2.0", "1.0"), ("cut", "2", "3.0", "4.0", "9.0")]
    assert worst_by_kind([]) == []


async def nothing(_: Ground) -> None:
    """Strike nowhere."""


def test_all_of_a_deck_are_drawn_before_any_of_the_next() -> None:
    kinds = (Kind("often", 3, nothing), Kind("seldom", 1, nothing))
    deck = Deck(kinds, random.Random(1))
    for _ in range(3):
        assert Counter(deck.draw(lambda _: True).name for _ in range(4)) == {"often": 3, "seldom": 1}


def test_kind_that_does_not_fit_waits_and_is_drawn_as_often_as_the_others() -> None:
    deck = Deck((Kind("long", 2, nothing, takes_s=60.0), Kind("short", 2, nothing)), random.Random(1))
    assert [deck.draw(lambda kind: kind.takes_s < 60).name for _ in range(4)] == ["short"] * 4
    assert Counter(deck.draw(lambda _: True).name for _ in range(4)) == {"long": 4}


async def test_supervisor_starts_whoever_ended_but_leaves_alone_whom_it_is_told_to_at_the_time() -> None:
    processes, leave = Processes(), {"s1"}
    processes.down = {"s1", "s2"}
    async with supervised(cast(Cluster, processes), leave=leave) as ends:
        await until(lambda: processes.down == {"s1"})
        assert (ends, processes.starts) == ([End("s2", 1)], {"s2": 1})
        leave.clear()
        await until(lambda: not processes.down)
        assert ends == [End("s2", 1), End("s1", 1)]


async def test_supervisor_says_who_ends_again_and_again() -> None:
    processes = Processes(in_vain=True)
    processes.down = {"s1"}

    async def watched() -> None:
        async with supervised(cast(Cluster, processes)):
            await until(lambda: processes.starts["s1"] == 20)
            await asyncio.sleep(0.3)  # Until it looks again.

    with pytest.raises(AssertionError, match="s1 ends again and again"):
        await watched()


def test_power_cut_twice_keeps_what_was_flushed_before_the_first(tmp_path: Path) -> None:
    """The ledger is shortened at each; what it says is the same."""
    control, data = tmp_path / "control", tmp_path / "data"
    for directory in (control, data):
        directory.mkdir()
    file = data / "000001.log"
    file.write_bytes(b"durable")
    found = file.stat()
    (control / "ledger").write_text(
        f"+ 1 2 3\n- 1 2\n+ {found.st_dev} {found.st_ino} 3\n+ {found.st_dev} {found.st_ino} 7\n"
    )
    disk = FaultyDisk(tmp_path / "library", control)
    for _ in range(2):
        assert disk.power_cut(data, random.Random(1)) == 0
    assert (control / "ledger").read_text() == f"+ {found.st_dev} {found.st_ino} 7\n"
    assert file.read_bytes() == b"durable"
