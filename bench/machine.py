"""What machine this is, and what runs on it."""

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tally.cluster.local_etcd import find_etcd

_ROOT: Final = Path(__file__).parents[1]
_REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
_NUMBER: Final = re.compile(r"\d+\.\d+(\.\d+)?")
_ANSWER_S: Final = 10.0


def machine() -> str:
    """Describe CPU, cores, kernel and the file system of the data."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    names = [cpu[1] if cpu else platform.machine(), f"{os.cpu_count()} cores", f"Linux {platform.release()}"]
    return ", ".join([*names, f"data on {file_system(_ROOT)}"])


def file_system(path: Path) -> str:
    """Return the kind of the file system that holds ``path``."""
    kinds = {}
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if path.is_relative_to(where):
            kinds[where] = kind
    return kinds[max(kinds, key=len)]


def commit() -> str:
    """Return which commit this is, and whether something has been changed since."""
    try:
        head = _said(["git", "-C", str(_ROOT), "rev-parse", "--short=10", "HEAD"])
        changed = _said(["git", "-C", str(_ROOT), "status", "--porcelain", "--untracked-files=no"])
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{head} with changes" if changed else head


def versions() -> dict[str, str]:
    """Return the versions of all that takes part."""
    asked = {
        "etcd": [str(find_etcd()), "--version"],
        "nginx": ["nginx", "-v"],
        "Redis": ["redis-server", "--version"],
        "wrk": ["wrk", "-v"],
    }
    found = {"Python": platform.python_version(), "aiohttp": version("aiohttp"), "grpcio": version("grpcio")}
    for name, command in asked.items():
        number = _NUMBER.search(_said(command))
        found[name] = number[0] if number else "unknown"
    pinned = dict(line.split("==") for line in _REQUIREMENTS.read_text().splitlines() if "==" in line)
    return {**found, **{name: pinned[name] for name in ("fastapi", "uvicorn", "uvloop", "redis")}}


def _said(command: list[str]) -> str:
    # Some tell their version on stderr, and wrk ends with status 1 after it.
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_ANSWER_S)
    return (ended.stdout + ended.stderr).strip()
