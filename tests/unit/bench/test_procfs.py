"""What is read from ``/proc``."""

import pytest

from bench.procfs import Stat, descendants, parse_busy_ticks, parse_stat

LINE = (
    "4711 (nginx: (worker) x) S 4700 4711 4700 0 -1 4194624 1000 0 0 0 150 250 7 9 20 0 3 0 5000 123456789 4321"
    " 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0"
)


def test_stat_of_a_program_whose_name_has_spaces_and_brackets() -> None:
    assert parse_stat(LINE) == Stat(pid=4711, parent=4700, cpu_ticks=400, resident_pages=4321)


def test_family_is_whoever_was_started_by_whoever_was_started() -> None:
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 20: 1, 21: 20}
    stats = {pid: Stat(pid, parent, 1, 1) for pid, parent in parents.items()}
    assert sorted(stat.pid for stat in descendants([10], stats)) == [10, 11, 12]
    assert sorted(stat.pid for stat in descendants([10, 11, 20], stats)) == [10, 11, 12, 20, 21]
    assert descendants([99], stats) == []


def test_busy_ticks_leave_out_idle_and_waiting_for_disks() -> None:
    text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 1000 1000 4 5 6 0 0\ncpu1 7 0 0 5 5 0 0 0 0 0\nintr 1\n"
    assert parse_busy_ticks(text, 0) == 21
    assert parse_busy_ticks(text, 1) == 7
    with pytest.raises(ValueError, match="no core 2"):
        parse_busy_ticks(text, 2)
