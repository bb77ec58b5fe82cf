"""What do more shards, more copies and more gateways cost, all on the same core?

The CPU is that of all processes together: it tells how much of the machines' work is left for requests.
"""

from contextlib import ExitStack
from typing import Final, NamedTuple

from bench.bench import Bench
from bench.figures import cpu_ratio
from bench.measure import Case, turn_about
from bench.peers.tally import Tally
from bench.questions.question import Question
from bench.report import Found, figures_row, figures_section, ratio_text
from bench.settings import Settings
from bench.workloads import GET, POST, Workload

_SHARDS: Final = 3
_ONE: Final = "1 shard"
_SHARDED: Final = f"{_SHARDS} shards"
_COPIED: Final = f"{_SHARDS} copies"
_GATEWAYS: Final = "2 gateways"
_NAMES: Final = ("shards", "copies", "gateways")


class _Variant(NamedTuple):
    shards: int = 1
    copies: int = 1
    gateways: int = 1


def _variants(settings: Settings) -> "dict[str, _Variant]":
    """Return what clusters are needed. Pure."""
    wanted = {_ONE: _Variant()}
    if not settings.only.isdisjoint({"shards", "copies"}):
        wanted[_SHARDED] = _Variant(shards=_SHARDS)
    if "copies" in settings.only:
        wanted[_COPIED] = _Variant(shards=_SHARDS, copies=_SHARDS)
    if "gateways" in settings.only:
        wanted[_GATEWAYS] = _Variant(gateways=2)
    return wanted


def _workloads(settings: Settings) -> tuple[Workload, ...]:
    return (POST, GET) if settings.everywhere else (POST,)


def _cost_s(settings: Settings) -> float:
    if settings.only.isdisjoint(_NAMES):
        return 0.0
    return len(_workloads(settings)) * len(_variants(settings)) * settings.rounds * settings.seconds


def _ask(bench: Bench) -> Found:
    settings, found = bench.settings, Found()
    with ExitStack() as stack:
        clusters = {
            name: stack.enter_context(Tally(bench.place("tally"), **variant._asdict()))
            for name, variant in _variants(settings).items()
        }
        for workload in _workloads(settings):
            section = figures_section(f"Shards, copies, gateways: {workload.title}")
            section.header = [*section.header[:-1], "CPU, it : 1 shard (min … max)"]
            hour = bench.new_hour()
            runs = turn_about(
                {name: Case(cluster, workload, hour) for name, cluster in clusters.items()},
                rounds=settings.rounds,
                seconds=settings.seconds,
                progress=bench.progress,
            )
            for name, of in runs.items():
                row = figures_row(clusters[name].title, workload.connections, of, None)
                section.rows.append([*row[:-1], "" if name == _ONE else ratio_text(cpu_ratio(of, runs[_ONE]))])
            found.sections.append(section)
            if workload is POST:
                for goal, dear, cheap in (("shards", _SHARDED, _ONE), ("copies", _COPIED, _SHARDED)):
                    ratio = cpu_ratio(runs[dear], runs[cheap]) if dear in runs else None
                    if ratio and goal in settings.only:
                        found.measured[goal] = ratio
    return found


VARIANTS: Final = Question(_NAMES, _cost_s, _ask)
