"""What the benchmarks need beside Tally: Debian's packages, and a Python environment for the peers."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.errors import BenchError, Missing
from bench.peers import nginx

_ROOT: Final = Path(__file__).parents[1]
_ENVIRONMENT: Final = _ROOT / ".venv-bench"
_REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
_INSTALL_S: Final = 300.0
_PROGRAMS: Final = {"nginx": "nginx", "redis-server": "redis-server", "redis-cli": "redis-tools", "wrk": "wrk"}

PEERS_PYTHON: Final = _ENVIRONMENT / "bin" / "python"


def check_programs() -> None:
    """Make sure that all programs are there.

    Raises:
        Missing: Some are not; it says how to install them.
    """
    packages = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    if "nginx" in packages or not nginx.has_lua():
        packages.append("libnginx-mod-http-lua")
    if packages:
        raise Missing(packages)


def prepare_environment() -> None:
    """Install the Python packages of the peers into an environment of their own, if that is not done yet.

    Raises:
        BenchError: It could not be done.
    """
    mark = _ENVIRONMENT / "installed"
    wanted = hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()
    if mark.exists() and mark.read_text() == wanted:
        return
    pip = [str(PEERS_PYTHON), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    try:
        _run([sys.executable, "-m", "venv", str(_ENVIRONMENT)])
        _run([*pip, "install", "--only-binary", ":all:", "--requirement", str(_REQUIREMENTS)])
    except (OSError, subprocess.SubprocessError) as exc:
        said = exc.stderr if isinstance(exc, subprocess.CalledProcessError) else str(exc)
        raise BenchError(f"the peers' Python packages could not be installed into {_ENVIRONMENT}: {said}") from exc
    mark.write_text(wanted)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_S)
