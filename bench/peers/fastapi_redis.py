"""What most would pick: FastAPI on uvicorn with uvloop and httptools, and Redis."""

from pathlib import Path

from bench.needs import PEERS_PYTHON
from bench.peers import nginx
from bench.peers.redis_server import start_redis
from bench.peers.system import READY_S, System
from tally.address import Address
from tally.command.machine.addresses import LOOPBACK, fresh_ports


class FastApiRedis(System):
    """FastAPI + Redis."""

    name = "fastapi-redis"
    title = "FastAPI + Redis"

    def start(self) -> None:
        """Start Redis, then uvicorn."""
        directory, unix_socket = self.place.directory, self.place.sockets / "fastapi.sock"
        start_redis(self.processes, directory / "data", unix_socket, within_s=READY_S)
        address = Address(LOOPBACK, next(fresh_ports()))
        command = [
            *(str(PEERS_PYTHON), "-m", "uvicorn", "fastapi_app:app", "--app-dir", str(Path(__file__).parent)),
            *("--host", address.host, "--port", str(address.port), "--backlog", "4096"),
            *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--timeout-keep-alive", "300"),
        ]
        self.processes.start("uvicorn", command, {"BENCH_REDIS_SOCKET": str(unix_socket)})
        self.processes.wait_until(
            lambda: nginx.answers(address, "/analytics?timestamp=0"), name="uvicorn", within_s=READY_S
        )
        self.address = address
