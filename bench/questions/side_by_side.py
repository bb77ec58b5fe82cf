"""How much CPU does a request cost, and how fast is it, beside what a user would pick instead?"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

from bench.bench import Bench
from bench.figures import cpu_ratio, medians
from bench.measure import Case, turn_about
from bench.peers.ceiling import Ceiling
from bench.peers.fastapi_redis import FastApiRedis
from bench.peers.nginx_redis import NginxRedis
from bench.peers.system import System
from bench.peers.tally import Tally
from bench.questions.question import Question
from bench.report import Found, figures_row, figures_section
from bench.settings import Settings
from bench.workloads import GET, MIX, POST, POST_KNOWN, Workload

PEERS: Final[dict[str, type[System]]] = {peer.name: peer for peer in (NginxRedis, FastApiRedis, Ceiling)}

_WORKLOADS: Final = (POST, POST_KNOWN, GET, MIX)
_REFERENCE: Final = 64
# Goals at other numbers of connections are about these.
_ELSEWHERE: Final = frozenset({Tally.name, NginxRedis.name})
_ELSEWHERE_WORKLOADS: Final = frozenset({POST.name, GET.name})


def runs_of(settings: Settings) -> Iterator[tuple[Workload, list[str]]]:
    """Give each workload that is to run, with the names of the systems that take part. Pure."""
    for workload in _WORKLOADS:
        if workload.name not in settings.only:
            continue
        for connections in settings.connections:
            systems = [Tally.name, *settings.peers]
            if connections != _REFERENCE and not settings.everywhere:
                if workload.name not in _ELSEWHERE_WORKLOADS:
                    continue
                systems = [name for name in systems if name in _ELSEWHERE]
            yield workload.at(connections), systems


def _cost_s(settings: Settings) -> float:
    return settings.rounds * settings.seconds * sum(len(systems) for _, systems in runs_of(settings))


def _ask(bench: Bench) -> Found:
    settings, found = bench.settings, Found()
    with ExitStack() as stack:
        kinds: dict[str, type[System]] = {Tally.name: Tally, **{name: PEERS[name] for name in settings.peers}}
        systems = {name: stack.enter_context(kind(bench.place(name))) for name, kind in kinds.items()}
        sections = {workload.name: figures_section(workload.title) for workload in _WORKLOADS}
        for workload, names in runs_of(settings):
            hour = bench.new_hour()
            runs = turn_about(
                {name: Case(systems[name], workload, hour) for name in names},
                rounds=settings.rounds,
                seconds=settings.seconds,
                progress=bench.progress,
            )
            tally = runs[Tally.name]
            for name in names:
                against = None if name == Tally.name else tally
                section = sections[workload.name]
                section.rows.append(figures_row(systems[name].title, workload.connections, runs[name], against))
                ratio = cpu_ratio(tally, runs[name]) if against else None
                if ratio:
                    found.measured[f"{workload.name}/{name}/{workload.connections}"] = ratio
                middle = medians(runs[name])
                if middle and workload.connections == _REFERENCE:
                    found.bars.setdefault(workload.title, {})[systems[name].title] = middle.cpu_us
        found.sections = [section for section in sections.values() if section.rows]
    return found


SIDE_BY_SIDE: Final = Question(tuple(workload.name for workload in _WORKLOADS), _cost_s, _ask)
