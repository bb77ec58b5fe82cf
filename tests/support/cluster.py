"""A real cluster for a test: etcd, shards and a gateway, each its own process, gone when the block ends."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from tests.support import commands
from tests.support.commands import ENDS_WITH_TESTS
from tests.support.etcd import AnyEtcd, EtcdServer, free_ports

GATEWAY: Final = "gateway"
_READY_S: Final = 60.0
_END_S: Final = 15.0
_TAIL_LINES: Final = 40


class Cluster:
    """``async with Cluster(tmp_path) as cluster:`` gives one that is ready. When the block fails, it shows the logs.

    Attributes:
        env, etcd_by: As given; may be changed before the start of a process.
        hosts: Process -> the IP address on which it listens, if not 127.0.0.1; may be changed before the start.
        inside: Process -> what to put before its command, for it to run in a network of its own; likewise.
        log_to: Process -> where its log goes, if not to a file of its own; likewise.
    """

    def __init__(
        self,
        directory: Path,
        *,
        shards: int = 3,
        slots: int = 256,
        spread: int = 16,
        hours_together: int = 24,
        cluster: str = "default",
        copies: int = 1,
        lease_s: int = 10,
        crash_at: Mapping[str, str] | None = None,
        env: Mapping[str, Mapping[str, str]] | None = None,
        data: Mapping[str, Path] | None = None,
        etcd_by: Mapping[str, str] | None = None,
        etcd: AnyEtcd | None = None,
    ) -> None:
        """Prepare.

        Args:
            directory: For data and logs.
            shards: How many; s1, s2 and so on.
            slots: Of ``tally create``, like the next ones.
            spread: Over how many slots an hour is spread.
            hours_together: How many hours share their slots.
            cluster: Its name.
            copies: How many of each slot.
            lease_s: Of each shard.
            crash_at: Shard -> the step of a move at which its first process ends by itself.
            env: Process -> variables that it gets beside what it inherits, at each start.
            data: Shard -> its data directory, if not below ``directory``.
            etcd_by: Process -> ``host:port`` by which it reaches etcd, if not directly.
            etcd: Not begun yet; None: one etcd as it comes.
        """
        self.etcd = etcd or EtcdServer()
        self.name = cluster
        self.shards = [f"s{number}" for number in range(1, shards + 1)]
        self._directory = directory
        self._lease_s = lease_s
        self._crash_at = dict(crash_at or {})
        self.env = {name: dict(variables) for name, variables in (env or {}).items()}
        self._data = dict(data or {})
        self.etcd_by = dict(etcd_by or {})
        self.hosts: dict[str, str] = {}
        self.inside: dict[str, list[str]] = {}
        self.log_to: dict[str, Path] = {}
        ports = free_ports(2 * shards + 1)  # All at once: the ones that are free are given again.
        self._ports = dict(zip([*self.shards, GATEWAY], ports[shards:], strict=True))
        self._peer_ports = dict(zip(self.shards, ports[:shards], strict=True))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._settings = [
            *("--shards", str(shards), "--slots", str(slots), "--spread", str(spread)),
            *("--hours-together", str(hours_together), "--copies", str(copies)),
        ]

    @property
    def url(self) -> str:
        """Where the gateway answers."""
        return f"http://{self.address(GATEWAY)}"

    def address(self, name: str) -> str:
        """``host:port`` of a shard's public service or the gateway; stays the same when it is started again."""
        return f"{self.hosts.get(name, '127.0.0.1')}:{self._ports[name]}"

    def peer_address(self, shard: str) -> str:
        """``host:port`` of a shard's internal service; likewise."""
        return f"{self.hosts.get(shard, '127.0.0.1')}:{self._peer_ports[shard]}"

    def data(self, shard: str) -> Path:
        """Return a shard's data directory."""
        return self._data.get(shard, self._directory / shard)

    def pid(self, name: str) -> int:
        """Return the process id of a shard or the gateway."""
        return self._processes[name].pid

    async def __aenter__(self) -> Self:
        self.etcd.__enter__()
        try:
            made = await commands.tally("create", "--etcd", self.etcd.endpoint, "--cluster", self.name, *self._settings)
            assert made.status == 0, made.err
            for name in (*self.shards, GATEWAY):
                self.start(name, crash_at=self._crash_at.get(name, ""))
            await self.wait_ready()
        except BaseException as exc:
            await self.__aexit__(type(exc), exc, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.logs())  # noqa: T201 - pytest shows it with the failure.
        for name in (GATEWAY, *self.shards):
            if name in self._processes:
                self._end(self._processes.pop(name))
        self.etcd.__exit__(kind, error, trace)

    def start(self, name: str, *, crash_at: str = "") -> None:
        """Start a shard or the gateway, on the data that it left if it ran before.

        Args:
            name: Which.
            crash_at: Of a shard: the step of a move at which it ends by itself; see ``shard/engine/points.py``.
        """
        before = self._processes.get(name)
        assert before is None or before.poll() is not None, f"{name} runs"
        command = [*self.inside.get(name, ()), *ENDS_WITH_TESTS, sys.executable, "-P", "-m", *self._command(name)]
        with self._log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=commands.environment()
                | self.env.get(name, {})
                | ({"TALLY_CRASH_AT": crash_at} if crash_at else {}),
                process_group=0,  # Ctrl-C is for the tests: they end it in its turn.
            )

    async def wait_ready(self) -> None:
        """Wait until the gateway says that every slot serves."""
        end = time.monotonic() + _READY_S
        said = "nothing"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0)) as session:
            while time.monotonic() < end:
                try:
                    async with session.get(f"{self.url}/readyz") as answer:
                        if answer.status == 200:
                            return
                        said = await answer.text()
                except (aiohttp.ClientError, TimeoutError) as exc:
                    said = str(exc)
                ended = [name for name, process in self._processes.items() if process.poll() is not None]
                assert not ended, f"{ended} ended before all were ready"
                await asyncio.sleep(0.05)
        raise AssertionError(f"not ready after {_READY_S} s: {said}")

    def add(self, name: str, *, crash_at: str = "") -> None:
        """Start a shard that was not there before."""
        self._ports[name], self._peer_ports[name] = free_ports(2)
        self.shards.append(name)
        self.start(name, crash_at=crash_at)

    def forget(self, name: str) -> None:
        """Leave out a shard that has ended and is a member no more."""
        assert self._processes.pop(name).poll() is not None
        self.shards.remove(name)

    def ended(self) -> list[str]:
        """Return which processes have ended."""
        return [name for name, process in self._processes.items() if process.poll() is not None]

    def status_of(self, name: str) -> int | None:
        """Return the exit status of one that has ended; minus the number of the signal that killed it."""
        return self._processes[name].poll()

    def kill(self, name: str) -> None:
        """End it without warning."""
        self._processes[name].kill()
        self._processes[name].wait(_END_S)

    def stop(self, name: str) -> None:
        """Stop its clock: connections stay open, nothing is answered."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def cont(self, name: str) -> None:
        """Let it go on."""
        self._processes[name].send_signal(signal.SIGCONT)

    def restart(self, name: str) -> None:
        """Start it again after its end."""
        self.start(name)

    def terminate(self, name: str) -> int:
        """End it in order; return its exit status."""
        self._processes[name].terminate()
        return self._processes[name].wait(_END_S)

    def kill_shards(self) -> None:
        """End all shards at once."""
        for name in self.shards:
            self._processes[name].kill()
        for name in self.shards:
            self._processes[name].wait(_END_S)

    async def status(self) -> dict[str, Any]:
        """Return what ``tally status`` says; nothing if it could not find out."""
        said = await commands.tally("status", "--etcd", self.etcd.endpoint, "--cluster", self.name, "--output", "json")
        found: dict[str, Any] = json.loads(said.out) if said.out else {}
        return found

    def logs(self) -> str:
        """Return the last lines of each process."""
        parts = []
        for name in self._processes:
            if not self._log(name).is_file():
                continue
            lines = self._log(name).read_text(errors="replace").splitlines()[-_TAIL_LINES:]
            parts.append("\n".join((f"--- {name}", *lines)))
        return "\n".join(parts)

    def _command(self, name: str) -> list[str]:
        etcd = self.etcd_by.get(name, self.etcd.endpoint)
        shared = ["--etcd", etcd, "--cluster", self.name, "--listen", self.address(name)]
        if name == GATEWAY:
            return ["gateway", *shared, "--map-file", str(self._directory / "map.json"), "--lame-duck-s", "0"]
        shared += ["--peer-listen", self.peer_address(name)]
        return ["shard", *shared, "--id", name, "--data", str(self.data(name)), "--lease-s", str(self._lease_s)]

    def _log(self, name: str) -> Path:
        return self.log_to.get(name, self._directory / f"{name}.log")

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        # How it ends in order has tests of its own; here it must only be gone.
        process.kill()
        process.wait(_END_S)
