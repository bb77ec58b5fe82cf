"""Processes of one system under test: started on one core, measured together, none left behind."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench import procfs
from bench.errors import ProcessEnded
from tally.command.machine.children import before_exec

_END_S: Final = 12.0
_KILL_S: Final = 5.0
_PAUSE_S: Final = 0.05
_TAIL_LINES: Final = 20


class Processes:
    """Processes that are started one by one and ended together."""

    def __init__(self, core: int, directory: Path) -> None:
        """Prepare.

        Args:
            core: On which they, and what they start, run.
            directory: For their logs; also where they are started.
        """
        self._core = core
        self._directory = directory
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._before_exec = before_exec()

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start one, with ``environment`` beside ours; its output goes to a log that is named after it."""
        core, tell_parent = self._core, self._before_exec

        def between_fork_and_exec() -> None:
            os.sched_setaffinity(0, {core})
            tell_parent()

        self._directory.mkdir(parents=True, exist_ok=True)
        with self._log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                preexec_fn=between_fork_and_exec,  # noqa: PLW1509 - it calls nothing that takes a lock.
            )

    def wait_until(self, ready: Callable[[], bool], *, name: str, within_s: float) -> None:
        """Wait until ``ready``; ``name`` is who is waited for.

        Raises:
            ProcessEnded: One of them ended first, or it took too long.
        """
        end = time.monotonic() + within_s
        while not ready():
            self.check()
            if time.monotonic() > end:
                raise ProcessEnded(name, f"was not ready within {within_s:.0f} s", self._tail(name))
            time.sleep(_PAUSE_S)

    def check(self) -> None:
        """Make sure that all of them run.

        Raises:
            ProcessEnded: One does not.
        """
        for name, process in self._running.items():
            status = process.poll()
            if status is not None:
                raise ProcessEnded(name, f"ended with status {status}", self._tail(name))

    def cpu_s(self) -> float:
        """Return the CPU seconds that all of them took so far."""
        return procfs.cpu_s(self._pids())

    def resident_mib(self, *names: str) -> float:
        """Return the memory in MiB that these hold now; without a name, all of them."""
        return (
            procfs.resident_mib(self._running[name].pid for name in names)
            if names
            else procfs.resident_mib(self._pids())
        )

    def end(self) -> None:
        """End all, those last that were started first; what does not end by itself is killed."""
        for process in reversed(self._running.values()):
            begun = [stat.pid for stat in procfs.family([process.pid])]
            process.terminate()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                _kill(begun)
                process.wait(_KILL_S)
        self._running.clear()

    def _pids(self) -> list[int]:
        return [process.pid for process in self._running.values()]

    def _log(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    def _tail(self, name: str) -> str:
        lines = self._log(name).read_text(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:]) or "  (nothing)"


def _kill(pids: Sequence[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
