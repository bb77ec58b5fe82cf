"""What an expert would pick: nginx + Lua + Redis, two commands in one round trip for each request."""

from pathlib import Path
from typing import Final

from bench.peers import nginx
from bench.peers.redis_server import start_redis
from bench.peers.system import READY_S, System
from tally.address import Address
from tally.command.machine.addresses import LOOPBACK, fresh_ports

_HERE: Final = Path(__file__).parent
_LOCATION: Final = """\
        location = /analytics {{
            content_by_lua_file {here}/nginx_redis.lua;
        }}
        set $redis "unix:{socket}";
"""


class NginxRedis(System):
    """nginx + Lua + Redis."""

    name = "nginx-redis"
    title = "nginx + Lua + Redis"

    def start(self) -> None:
        """Start Redis, then nginx."""
        directory, unix_socket = self.place.directory, self.place.sockets / "nginx.sock"
        start_redis(self.processes, directory / "data", unix_socket, within_s=READY_S)
        address = Address(LOOPBACK, next(fresh_ports()))
        location = _LOCATION.format(here=_HERE, socket=unix_socket)
        nginx.write_configuration(directory, address, location, lua=True)
        self.processes.start("nginx", nginx.command(directory))
        self.processes.wait_until(
            lambda: nginx.answers(address, "/analytics?timestamp=0"), name="nginx", within_s=READY_S
        )
        self.address = address
