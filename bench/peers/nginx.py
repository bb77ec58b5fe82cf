"""nginx as an expert runs it for this: one worker, connections kept, no access log."""

import http.client
import os
import re
import subprocess
from pathlib import Path
from typing import Final

from tally.address import Address

_MODULES: Final = ("ndk_http_module.so", "ngx_http_lua_module.so")
_MAIN: Final = """\
{modules}{user}worker_processes 1;
daemon off;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    tcp_nodelay on;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen {address} backlog=4096;
{location}
    }}
}}
"""


def modules_directory() -> Path:
    """Return where nginx has its modules."""
    told = subprocess.run(["nginx", "-V"], capture_output=True, text=True, check=True, timeout=10.0).stderr
    found = re.search(r"--modules-path=(\S+)", told)
    return Path(found[1]) if found else Path("/usr/lib/nginx/modules")


def has_lua() -> bool:
    """Say whether nginx has its Lua module."""
    return all((modules_directory() / name).is_file() for name in _MODULES)


def write_configuration(directory: Path, address: Address, location: str, *, lua: bool) -> None:
    """Write ``nginx.conf`` into ``directory``.

    Args:
        directory: nginx runs there.
        address: Where it listens.
        location: What stands in its one server.
        lua: Whether it needs the Lua module.
    """
    directory.mkdir(parents=True, exist_ok=True)
    where = modules_directory() if lua else Path()
    modules = "".join(f"load_module {where / name};\n" for name in _MODULES) if lua else ""
    # A worker of root's would become another user, who can't read our directory.
    user = "user root;\n" if os.geteuid() == 0 else ""
    text = _MAIN.format(modules=modules, user=user, address=address, location=location)
    (directory / "nginx.conf").write_text(text)


def command(directory: Path) -> list[str]:
    """Return what starts it in the foreground."""
    return ["nginx", "-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf")]


def answers(address: Address, target: str) -> bool:
    """Say whether a GET is answered with success."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=2.0)
    try:
        connection.request("GET", target)
        return connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
