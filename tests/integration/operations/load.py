"""Clients that go on while a test does something to their cluster, and what they saw of it."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Final, NamedTuple, Self

import aiohttp

from tests.support.checking_clients import Clients
from tests.support.cluster import Cluster
from tests.support.events import HOUR

WRITERS: Final = 4
READERS: Final = 3
HOURS: Final = (HOUR, HOUR + 1, HOUR - 5000)
_SLOWEST_SHOWN: Final = 5


class Ended(NamedTuple):
    """One request that has come to its end."""

    after_s: float
    took_ms: int
    method: str
    outcome: str


class Trace:
    """How each request ended, and how long it took."""

    def __init__(self) -> None:
        self.ended: list[Ended] = []
        self._began = time.monotonic()

    def config(self) -> aiohttp.TraceConfig:
        """Return what a session tells it by."""
        config = aiohttp.TraceConfig()
        config.on_request_start.append(self._start)
        config.on_request_end.append(self._end)
        config.on_request_exception.append(self._exception)
        return config

    @property
    def now_s(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._began

    async def _start(self, _: object, request: SimpleNamespace, __: object) -> None:
        request.began = time.monotonic()

    async def _end(self, _: object, request: SimpleNamespace, found: aiohttp.TraceRequestEndParams) -> None:
        self._note(request, found.method, str(found.response.status))

    async def _exception(self, _: object, request: SimpleNamespace, found: aiohttp.TraceRequestExceptionParams) -> None:
        self._note(request, found.method, repr(found.exception))

    def _note(self, request: SimpleNamespace, method: str, outcome: str) -> None:
        now = time.monotonic()
        self.ended.append(Ended(now - self._began, round((now - request.began) * 1000), method, outcome))

    def failed(self) -> list[Ended]:
        """Return the requests that were not answered as their clients wished."""
        return [one for one in self.ended if one.outcome not in {"200", "204"}]

    def figures(self) -> str:
        """Say how many there were, and which took longest."""
        times = sorted(one.took_ms for one in self.ended)
        slowest = sorted(self.ended, key=lambda one: -one.took_ms)[:_SLOWEST_SHOWN]
        shown = ", ".join(f"{one.method} {one.took_ms} ms ended at {one.after_s:.1f} s" for one in slowest)
        outcomes = dict(Counter(one.outcome for one in self.ended))
        return f"{len(times)} requests in {self.now_s:.1f} s {outcomes}, median {times[len(times) // 2]} ms; {shown}"


class Load:
    """Clients at work; see ``under_load``."""

    def __init__(self, clients: Clients, trace: Trace) -> None:
        self.clients = clients
        self.trace = trace
        self._goes_on = True

    def goes_on(self) -> bool:
        """Whether the clients are to go on."""
        return self._goes_on

    def end(self) -> None:
        """Let each client finish what it is at."""
        self._goes_on = False

    def begin(self, group: asyncio.TaskGroup) -> Self:
        """Set all of them to work: some write without keys, some with keys until it is definite, some read."""
        plain, old, keyed = self.clients.hours
        for number in range(WRITERS):
            group.create_task(self.clients.write(number, old if number % 4 == 0 else plain, self.goes_on))
            group.create_task(self.clients.write_until_definite(number, keyed, self.goes_on))
        for number in range(READERS):
            group.create_task(self.clients.read(self.clients.hours[number % 3], self.goes_on))
        return self

    def check_no_request_failed(self) -> None:
        """See that each request was answered, and as wished."""
        assert self.trace.failed() == []
        assert self.clients.unknown == 0
        assert self.clients.refused_reads == 0


@asynccontextmanager
async def under_load(cluster: Cluster, *, warm_up_s: float = 1.0) -> AsyncIterator[Load]:
    """Have clients at work during the block; at its end they stop, and every hour is held against what they know."""
    seed = secrets.randbits(32)
    trace = Trace()
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=12.0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trace_configs=[trace.config()]) as session:
        load = Load(Clients(session, cluster.url, hours=HOURS, seed=seed), trace)
        async with asyncio.TaskGroup() as group:
            load.begin(group)
            try:
                await asyncio.sleep(warm_up_s)
                yield load
            finally:
                load.end()
                show(f"seed {seed}: {trace.figures()}")
        show(f"{load.clients.unknown} unknown, {load.clients.refused_reads} reads refused; {trace.failed()[:10]}")
        await cluster.wait_ready()
        await check_hours(load.clients)


async def check_hours(clients: Clients) -> None:
    """See that nothing was lost, doubled or stale."""
    for hour in clients.hours:
        assert hour.reads > 3
        assert await clients.read_once(hour) is not None
    if clients.unknown == 0:
        for hour in clients.hours:
            assert hour.told == hour.sent.numbers() == hour.acknowledged.numbers()
    keyed = clients.hours[2]
    assert keyed.told == keyed.sent.numbers() == keyed.acknowledged.numbers()


def show(line: str) -> None:
    """Print; pytest shows it with a failure, or with --capture=no."""
    print(line, flush=True)  # noqa: T201
