"""The processes of one ``tally up``: started, watched, ended. All stay in its process group."""

import asyncio
import os
import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tally.command.machine.children import before_exec
from tally.command.machine.programs import Program
from tally.errors import TallyError
from tally.tasks import awaited

END_S_MAX: Final = 15.0  # A gateway may take 9 s to answer what is under way.
_TAIL_BYTES: Final = 262_144  # Of Go, the line that tells why comes before those of a hundred threads.
_PANIC: Final = re.compile(r"(panic|fatal error): ")
_ERROR: Final = re.compile(r'"level": ?"(error|dpanic|panic|fatal|critical)"')


class StartFailed(TallyError):
    """A process could not be started, or ended before all were ready."""

    def __init__(self, name: str, why: str, log: str) -> None:
        super().__init__(name, why, log)
        self.name = name
        self.why = why
        self.log = log

    def __str__(self) -> str:
        return f"{self.name} did not start: {self.why} (all of it: {self.log})"


class Ended(NamedTuple):
    """A process that has ended.

    Attributes:
        program: What it ran.
        status: Its exit status; minus the number of the signal that killed it.
        last_words: The line of its log that tells most of its end, if any.
    """

    program: Program
    status: int
    last_words: str


class _Running(NamedTuple):
    program: Program
    process: asyncio.subprocess.Process
    log_from: int
    watcher: asyncio.Task[None]


class Processes:
    """Starts processes, tells when one ends, and leaves none behind."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Prepare to start processes with this environment."""
        self.ended: asyncio.Queue[Ended] = asyncio.Queue()
        self._environment = environment
        self._running: dict[str, _Running] = {}
        self._before_exec = before_exec()

    def pid(self, name: str) -> int:
        """Return the process id of one that runs."""
        return self._running[name].process.pid

    def names(self) -> list[str]:
        """Return the names of those that run."""
        return list(self._running)

    async def start(self, program: Program) -> None:
        """Start one.

        Raises:
            StartFailed: There is no such program, or it can't be run.
        """
        try:
            program.log.parent.mkdir(parents=True, exist_ok=True)
            with program.log.open("ab") as log:
                log_from = log.tell()
                process = await asyncio.create_subprocess_exec(
                    *program.command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    preexec_fn=self._before_exec,
                )
        except OSError as exc:
            raise StartFailed(program.name, str(exc), str(program.log)) from exc
        watcher = awaited(self._watch(program, process, log_from), name=f"watch {program.name}")
        self._running[program.name] = _Running(program, process, log_from, watcher)

    async def _watch(self, program: Program, process: asyncio.subprocess.Process, log_from: int) -> None:
        status = await process.wait()
        del self._running[program.name]
        self.ended.put_nowait(Ended(program, status, last_words(program.log, log_from)))

    async def end(self, names: Sequence[str], at_once: asyncio.Event) -> None:
        """End these together: SIGTERM, and SIGKILL after fifteen seconds or when ``at_once`` is set."""
        ending = [self._running[name] for name in names if name in self._running]
        if not ending:
            return
        if not at_once.is_set():
            _signal_all(ending, signal.SIGTERM)
            hurry = awaited(at_once.wait(), name="hurry")
            gone: asyncio.Future[Any] = asyncio.gather(*(one.watcher for one in ending))
            await asyncio.wait({gone, hurry}, timeout=END_S_MAX, return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
        _signal_all(ending, signal.SIGKILL)
        await asyncio.gather(*(one.watcher for one in ending))


def _signal_all(running: Sequence[_Running], what: signal.Signals) -> None:
    for one in running:
        if not one.watcher.done() and one.process.returncode is None:
            one.process.send_signal(what)


def how_it_ended(status: int) -> str:
    """Say in words how a process ended. Pure."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def last_words(log: Path, start: int) -> str:
    """Return the most telling line that was written to a log after byte ``start``; empty if there is none."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return telling_line([line.strip() for line in lines])


def telling_line(lines: Sequence[str]) -> str:
    """Return the line that tells why a process ended: that of a panic, else the last error, else the last. Pure.

    A last line that is no JSON is what our own processes say at the end, and counts as an error.
    """
    written = [line for line in lines if line]
    if not written:
        return ""
    panic = next((line for line in written if _PANIC.match(line)), None)
    errors = [line for line in written if _ERROR.search(line)]
    if panic or not written[-1].startswith("{"):
        return panic or written[-1]
    return errors[-1] if errors else written[-1]
