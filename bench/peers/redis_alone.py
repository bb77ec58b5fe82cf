"""Redis by itself, for bulk: commands come from a file through ``redis-cli --pipe``."""

import subprocess
import time
from pathlib import Path
from typing import Final

from bench.counts import Counts
from bench.errors import LoadFailed
from bench.load.bulk import user
from bench.peers.redis_server import start_redis
from bench.peers.system import READY_S, System

_PIPE_S: Final = 120.0
_ANSWER_S: Final = 10.0


class RedisAlone(System):
    """Redis and ``redis-cli --pipe``."""

    name = "redis"
    title = "redis-cli --pipe"

    def start(self) -> None:
        """Start Redis."""
        start_redis(self.processes, self.place.directory / "data", self._socket, within_s=READY_S)

    def read(self, hours: list[int]) -> list[Counts]:
        """Return what it tells of these hours."""
        return [
            Counts(self._number("SCARD", f"users:{hour}"), self._number("HGET", f"counts:{hour}", "clicks"), 0)
            for hour in hours
        ]

    def pipe(self, commands: Path) -> float:
        """Send the commands in a file, wait until each is answered, and return how many seconds that took.

        Raises:
            LoadFailed: Some were not.
        """
        began = time.monotonic()
        with commands.open("rb") as file:
            ended = subprocess.run(
                ["redis-cli", "-s", str(self._socket), "--pipe"],
                stdin=file,
                capture_output=True,
                text=True,
                check=False,
                timeout=_PIPE_S,
            )
        if ended.returncode or "errors: 0" not in ended.stdout:
            raise LoadFailed(f"redis-cli --pipe: {ended.stdout}{ended.stderr}")
        return time.monotonic() - began

    def _number(self, *command: str) -> int:
        asked = ["redis-cli", "-s", str(self._socket), *command]
        said = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=_ANSWER_S).stdout.strip()
        return int(said or 0)

    @property
    def _socket(self) -> Path:
        return self.place.sockets / "alone.sock"


def write_commands(file: Path, *, hour: int, events: int, seed: int) -> None:
    """Write what counts ``events`` clicks, each of a user of its own, in Redis' protocol."""
    with file.open("wb") as out:
        for number in range(events):
            out.write(_command("SADD", f"users:{hour}", user(seed, number)))
            out.write(_command("HINCRBY", f"counts:{hour}", "clicks", "1"))


def _command(*words: str) -> bytes:
    parts = [f"${len(word)}\r\n{word}\r\n" for word in words]
    return f"*{len(words)}\r\n{''.join(parts)}".encode()
