"""POSTs at a fixed rate, whether they are answered or not (an open loop): clients that know nothing of each other.

A process of its own, ``python -m bench.load.open_loop SPEC``: one thread, one epoll. It turns while it waits, because a
sleep would be late by more than what is measured; so it needs its core for itself.
"""

import gc
import json
import random
import select
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.counts import HOUR_MS
from bench.errors import LoadFailed
from bench.load.answers import whole_answer
from bench.load.schedule import FAILED, GOOD, REFUSED, Schedule, Second, Stage, StageOutcome
from tally.command.machine.children import before_exec
from tally.limits import raise_file_limit

_ROOT: Final = Path(__file__).parents[2]
_WAITING_MAX: Final = 20_000
_DRAIN_S: Final = 12.0  # A gateway answers within 8 s.
_CONNECT_S: Final = 5.0
_END_S: Final = 60.0
_POLL_S: Final = 0.001
_RECEIVE_BYTES: Final = 4096


class Spec(NamedTuple):
    """What to send.

    Attributes:
        host, port: Where.
        hour: Of all events.
        seed: New users are named after it.
        connections: How many requests can be under way at a time.
        patience_s: A request that found no connection for so long is never sent.
        stages: The rates.
    """

    host: str
    port: int
    hour: int
    seed: int
    connections: int
    patience_s: float
    stages: list[Stage]


class _Connection:
    """One client: at most one request is under way."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=_CONNECT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.stage = 0
        self.due = 0.0
        self.sent = 0.0
        self.busy = False
        self.received = b""


class OpenLoop:
    """Drives the connections until the last request is answered, or given up."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._schedule = Schedule(spec.stages)
        self._chance = random.Random(spec.seed)
        self._poll = select.epoll()
        self._all: dict[int, _Connection] = {}
        self._idle: list[_Connection] = []
        self._waiting: deque[tuple[int, float]] = deque()
        self._sent = 0

    def run(self) -> list[StageOutcome]:
        """Send everything, and return what came of each stage."""
        for _ in range(self._spec.connections):
            self._open()
        began = time.monotonic()
        lasts_s = sum(stage.seconds for stage in self._spec.stages)
        while True:
            now = time.monotonic() - began
            self._fall_due(now)
            self._send(now)
            all_left = self._schedule.next_s is None and not self._waiting
            if (all_left and len(self._idle) == len(self._all)) or now > lasts_s + _DRAIN_S:
                break
            for descriptor, _ in self._poll.poll(self._pause_s(now), 1024):
                self._receive(self._all[descriptor], time.monotonic() - began)
        self._give_up(time.monotonic() - began)
        return self._schedule.outcomes()

    def _pause_s(self, now: float) -> float:
        """Return how long to wait for answers: not at all, if the next request leaves sooner than a sleep ends."""
        due = self._schedule.next_s
        return 0.0 if due is not None and due - now < 2 * _POLL_S else _POLL_S

    def _open(self) -> None:
        connection = _Connection((self._spec.host, self._spec.port))
        self._all[connection.socket.fileno()] = connection
        self._poll.register(connection.socket, select.EPOLLIN)
        self._idle.append(connection)

    def _fall_due(self, now: float) -> None:
        schedule = self._schedule
        while schedule.next_s is not None and schedule.next_s <= now:
            stage, due = schedule.take()
            if len(self._waiting) < _WAITING_MAX:
                self._waiting.append((stage, due))
            else:
                schedule.unsent(stage)

    def _send(self, now: float) -> None:
        while self._waiting and now - self._waiting[0][1] > self._spec.patience_s:
            self._schedule.unsent(self._waiting.popleft()[0])
        while self._waiting and self._idle:
            connection = self._idle.pop()
            connection.stage, connection.due = self._waiting.popleft()
            connection.busy, connection.received, connection.sent = True, b"", now
            try:
                connection.socket.send(self._request())  # So few bytes always fit.
            except OSError:
                self._broken(connection, now)
            else:
                self._schedule.left(connection.stage, connection.due, now)

    def _request(self) -> bytes:
        self._sent += 1
        timestamp_ms = self._spec.hour * HOUR_MS + self._sent % HOUR_MS
        user = f"{self._chance.getrandbits(32):08x}-{self._spec.seed:x}-{self._sent:x}"
        return (
            f"POST /analytics?timestamp={timestamp_ms}&user={user}&click HTTP/1.1\r\n"
            "Host: bench\r\nUser-Agent: bench\r\nAccept: */*\r\nContent-Length: 0\r\n\r\n"
        ).encode()

    def _receive(self, connection: _Connection, now: float) -> None:
        try:
            received = connection.socket.recv(_RECEIVE_BYTES)
        except OSError:
            received = b""
        if not received:
            self._broken(connection, now)
            return
        connection.received += received
        answer = whole_answer(connection.received)
        if answer is None or not connection.busy:
            return
        how = {204: GOOD, 503: REFUSED}.get(answer.status, FAILED)
        self._schedule.ended(connection.stage, connection.due, connection.sent, now, how)
        connection.busy = False
        if answer.closes:
            self._broken(connection, now)
        else:
            self._idle.append(connection)

    def _broken(self, connection: _Connection, now: float) -> None:
        """Open another one in its place."""
        if connection.busy:
            self._schedule.ended(connection.stage, connection.due, connection.sent, now, FAILED)
        elif connection in self._idle:
            self._idle.remove(connection)
        self._poll.unregister(connection.socket)
        del self._all[connection.socket.fileno()]
        connection.socket.close()
        self._open()

    def _give_up(self, now: float) -> None:
        for connection in self._all.values():
            if connection.busy:
                self._schedule.ended(connection.stage, connection.due, connection.sent, now, FAILED)
            connection.socket.close()
        for stage, _ in self._waiting:
            self._schedule.unsent(stage)


def command(spec: Spec) -> list[str]:
    """Return the command line of the process that does this. Pure."""
    return [sys.executable, "-m", "bench.load.open_loop", json.dumps(spec._asdict())]


def start(spec: Spec) -> "subprocess.Popen[str]":
    """Start that process; ``outcomes_of`` waits for it."""
    return subprocess.Popen(
        command(spec),
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=before_exec(),  # noqa: PLW1509 - it calls nothing that takes a lock.
    )


def outcomes_of(process: "subprocess.Popen[str]", *, within_s: float) -> list[StageOutcome]:
    """Wait for what the process found.

    Raises:
        LoadFailed: It did not end well.
    """
    try:
        out, _ = process.communicate(timeout=within_s + _DRAIN_S + _END_S)
    except subprocess.TimeoutExpired as exc:
        raise LoadFailed("the open loop did not end") from exc
    finally:
        process.kill()
    if process.returncode:
        raise LoadFailed(f"the open loop ended with status {process.returncode}")
    return parse_outcomes(out)


def parse_outcomes(text: str) -> list[StageOutcome]:
    """Read what the process prints. Pure."""
    stages: list[dict[str, Any]] = json.loads(text)
    return [StageOutcome(**{**stage, "seconds": [Second(*one) for one in stage["seconds"]]}) for stage in stages]


def main() -> None:
    """Do what the one argument says, and print what came of it."""
    given = json.loads(sys.argv[1])
    spec = Spec(**{**given, "stages": [Stage(*stage) for stage in given["stages"]]})
    raise_file_limit(spec.connections)
    gc.disable()  # Its pauses would look like the server's. Nothing here makes cycles.
    outcomes = OpenLoop(spec).run()
    json.dump([outcome._asdict() for outcome in outcomes], sys.stdout)


if __name__ == "__main__":
    main()
