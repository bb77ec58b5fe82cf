"""Redis that flushes its log before it answers, as Tally does. It is given its best: a Unix socket, no rewrites."""

import socket
from pathlib import Path

from bench.processes import Processes

_NAME = "redis"


def redis_command(data: Path, unix_socket: Path) -> list[str]:
    """Return the command line of a Redis with its data in ``data``. Pure."""
    settings = {
        "port": "0",
        "unixsocket": str(unix_socket),
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "always",
        # A rewrite in the middle of a run would cost CPU that no request caused.
        "auto-aof-rewrite-percentage": "0",
        "save": "",
        "daemonize": "no",
        "tcp-backlog": "4096",
    }
    return ["redis-server", *(part for name, value in settings.items() for part in (f"--{name}", value))]


def start_redis(processes: Processes, data: Path, unix_socket: Path, *, within_s: float) -> None:
    """Start one, and wait until it answers."""
    data.mkdir(parents=True, exist_ok=True)
    processes.start(_NAME, redis_command(data, unix_socket))
    processes.wait_until(lambda: _answers(unix_socket), name=_NAME, within_s=within_s)


def _answers(unix_socket: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(unix_socket))
            probe.sendall(b"PING\r\n")
            return probe.recv(16) == b"+PONG\r\n"
        except OSError:
            return False
