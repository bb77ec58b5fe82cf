"""What Linux tells about processes: CPU time, memory, who started whom. The parsing is pure."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_PROC: Final = Path("/proc")


class Stat(NamedTuple):
    """One process, all its threads together.

    Attributes:
        pid: Its id.
        parent: Who started it, or who took it over.
        cpu_ticks: In user and kernel mode so far.
        resident_pages: Memory that it has now.
    """

    pid: int
    parent: int
    cpu_ticks: int
    resident_pages: int


def parse_stat(line: str) -> Stat:
    """Read ``/proc/PID/stat``. Pure. A program's name may hold spaces and brackets.

    Source: proc(5): state is field 3, ppid 4, utime 14, stime 15, rss 24.
    """
    pid = line.partition(" ")[0]
    fields = line.rpartition(")")[2].split()
    return Stat(int(pid), int(fields[1]), int(fields[11]) + int(fields[12]), int(fields[21]))


def descendants(roots: Iterable[int], stats: Mapping[int, Stat]) -> list[Stat]:
    """Return those of ``roots`` that live, and all that they have started. Pure."""
    children: dict[int, list[int]] = {}
    for stat in stats.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    found: dict[int, Stat] = {}
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid in stats and pid not in found:
            found[pid] = stats[pid]
            waiting += children.get(pid, [])
    return list(found.values())


def family(roots: Iterable[int]) -> list[Stat]:
    """Return these processes and all that they have started."""
    return descendants(roots, _all_stats())


def cpu_s(roots: Iterable[int]) -> float:
    """Return the CPU seconds that these processes and all that they have started took so far."""
    return sum(stat.cpu_ticks for stat in family(roots)) / _TICKS_PER_S


def resident_mib(roots: Iterable[int]) -> float:
    """Return the memory in MiB that these processes and all that they have started hold now."""
    return sum(stat.resident_pages for stat in family(roots)) * _PAGE_BYTES / 2**20


def parse_busy_ticks(text: str, core: int) -> int:
    """Return how many ticks a core was not idle so far, from ``/proc/stat``. Pure.

    Source: proc(5): user, nice, system, idle, iowait, irq, softirq, steal. What the hypervisor took counts as busy.
    """
    for line in text.splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields[:8])
            return user + nice + system + irq + softirq + steal
    raise ValueError(f"no core {core}")


def busy_s(core: int) -> float:
    """Return how many seconds a core was not idle so far."""
    return parse_busy_ticks((_PROC / "stat").read_text(), core) / _TICKS_PER_S


def _all_stats() -> dict[int, Stat]:
    stats = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            try:
                stat = parse_stat((entry / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):  # It has just ended.
                continue
            stats[stat.pid] = stat
    return stats
