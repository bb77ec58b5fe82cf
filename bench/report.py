"""The report: Markdown of what was found. Pure."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench import goals
from bench.figures import Figures, Spread, cpu_ratio, medians, valid
from bench.goals import number

_WIDTH: Final = 120
_FIGURES: Final = (
    *("system", "connections", "requests/s", "CPU us/request", "min … max", "p50 ms", "p99 ms", "p99.9 ms"),
    *("others", "CPU, Tally : it (min … max)"),
)


@dataclass
class Section:
    """One table of the report.

    Attributes:
        title: What it is about.
        header: Its columns.
        rows: As many cells each.
        notes: What to know to read it.
    """

    title: str
    header: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Found:
    """What a question found.

    Attributes:
        measured: Name of a goal -> what was measured for it.
        sections: Tables for the report.
        bars: Title of a workload -> system -> CPU microseconds per request, for the plot.
    """

    measured: dict[str, Spread] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)
    bars: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, other: "Found") -> None:
        """Take over what another question found."""
        self.measured |= other.measured
        self.sections += other.sections
        self.bars |= other.bars


@dataclass(frozen=True, kw_only=True)
class About:
    """Where and how it was measured.

    Attributes:
        date: UTC.
        commit: Of Tally.
        machine: CPU, cores, kernel, disk.
        versions: Program -> version.
        command: What to type to repeat it.
        plot: Name of the picture beside the report; None if there is none.
    """

    date: str
    commit: str
    machine: str
    versions: Mapping[str, str]
    command: str
    plot: str | None = None


def render(about: About, found: Found) -> str:
    """Return the whole report."""
    versions = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    head = [
        f"# Benchmarks of {about.date}",
        "",
        *textwrap.wrap(f"- Tally at commit {about.commit}; {versions}", _WIDTH, subsequent_indent="  "),
        f"- {about.machine}",
        f"- to repeat it: `{about.command}`",
        "",
        "CPU is user and kernel time of all processes of a system, etcd and Redis among them. Ratios are of CPU per",
        "request, round by round in one run: the median, and the lowest and highest round. All systems flush to one",
        "disk before they answer. What a system acknowledged was held against what it counts after every run.",
        "Others: how much of the servers' core was taken by other work, the kernel's for their flushes among it.",
        "",
        "## Goals",
        "",
        f"Tally : peer, same durability; {goals.REFERENCE}.",
        "",
        *table(("work", "goal", "measured", "min … max", ""), goals.rows(found.measured)),
    ]
    if about.plot:
        head += ["", f"![CPU per request]({about.plot})"]
    parts = [line for section in found.sections for line in ("", *section_lines(section))]
    return "\n".join([*head, *parts, ""])


def section_lines(section: Section) -> list[str]:
    """Return the lines of one section."""
    notes = [line for note in section.notes for line in ("", *textwrap.wrap(note, _WIDTH))]
    return [f"## {section.title}", "", *table(section.header, section.rows), *notes]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table whose columns also line up as plain text."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (header, *rows)]
    lines.insert(1, ["-" * width for width in widths])
    return [f"| {' | '.join(cells)} |" for cells in lines]


def figures_section(title: str) -> Section:
    """Return an empty table for ``figures_row``."""
    return Section(title, _FIGURES)


def figures_row(title: str, connections: int, runs: Sequence[Figures], tally: Sequence[Figures] | None) -> list[str]:
    """Return a row about one system.

    Args:
        title: Of the system.
        connections: How many.
        runs: One for each round.
        tally: Those of Tally in the same rounds; None if this is Tally.
    """
    middle = medians(runs)
    if middle is None:
        return [title, str(connections), f"VOID: {runs[0].failure}", *[""] * 7]
    cpu = Spread.of([run.cpu_us for run in valid(runs)])
    ratio = cpu_ratio(tally, runs) if tally else None
    void = len(runs) - len(valid(runs))
    return [
        title + (f" ({void} of {len(runs)} rounds void)" if void else ""),
        str(connections),
        f"{middle.per_s:,.0f}",
        f"{middle.cpu_us:.1f}",
        f"{cpu.low:.1f} … {cpu.high:.1f}",
        *(number(value) for value in middle[2:5]),
        f"{middle.others:.0%}",
        ratio_text(ratio),
    ]


def ratio_text(ratio: Spread | None) -> str:
    """Write a ratio with its spread; empty if there is none."""
    return f"{ratio.median:.2f} ({ratio.low:.2f} … {ratio.high:.2f})" if ratio else ""
