"""What ``tally up`` remembers in its data directory, so that the next run finds the same ports."""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from tally.cluster.identity import IDENTITY_FILE
from tally.command.machine.addresses import LOOPBACK
from tally.command.machine.programs import ETCD, port_names, shards_in, usual_ports
from tally.errors import DirectoryRefused
from tally.files import is_draft, write_whole

FILE_NAME: Final = "tally-up.json"
_BEFORE_THE_FILE: Final = {"lock", "logs", "tally-up.new"}  # What a start that was cut short may leave, beside drafts.


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """The last run.

    Attributes:
        etcd: Endpoints of the etcd that it used.
        cluster: The name of its cluster.
        ports: Process -> port on 127.0.0.1 that was chosen for it.
    """

    etcd: str
    cluster: str
    ports: Mapping[str, int]

    @property
    def own_etcd(self) -> bool:
        """It ran an etcd of its own."""
        return "etcd" in self.ports

    def shards(self) -> list[str]:
        """Return the shards that have data there."""
        return shards_in(self.ports)

    def save(self, path: Path) -> None:
        """Write it, whole or not at all; durable when this returns.

        Raises:
            OSError: It can't be written.
        """
        write_whole(path, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read what ``save`` wrote; None if there is nothing.

        Raises:
            DirectoryRefused: It is something else.
        """
        try:
            value = json.loads(path.read_text())
            ports = {str(name): int(port) for name, port in value["ports"].items()}
            return cls(etcd=str(value["etcd"]), cluster=str(value["cluster"]), ports=ports)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            raise DirectoryRefused(str(path.parent), f"can't read {path.name} in it: {exc}; {_way_out(path)}") from exc


def _way_out(path: Path) -> str:
    """Say how to go on with the data when the file that is to say what it is can't be read."""
    data = path.parent
    found = [one.parent.name for one in data.glob(f"s*/{IDENTITY_FILE}")]
    numbers = [int(name[1:]) for name in found if name[1:].isdecimal()]
    if not numbers:
        return "no shard has data there, so nothing is lost with the directory: remove it, or choose another --data"
    own_etcd = (data / ETCD).is_dir()
    usual = usual_ports(max(numbers))
    ports = {name: usual[name] for name in port_names(max(numbers), own_etcd=own_etcd)}
    etcd = f"{LOOPBACK}:{usual[ETCD]}" if own_etcd else "HOST:PORT"
    anew = Remembered(etcd=etcd, cluster="default", ports=ports)
    return (
        "the data itself is not touched by that. Write the file anew, with the name of the cluster if it had another: "
        f"echo {shlex.quote(json.dumps(asdict(anew)))} > {shlex.quote(str(path))}"
    )


def choose_ports(
    names: Sequence[str],
    before: Mapping[str, int],
    usual: Mapping[str, int],
    is_free: Callable[[int], bool],
    fresh: Iterator[int],
) -> dict[str, int]:
    """Give each name the port that it had, else its usual one, else, if another program has that, a fresh one. Pure.

    Args:
        names: Who needs a port.
        before: Who had which.
        usual: Who should have which, if it had none.
        is_free: Whether a port can be used.
        fresh: Ports that can be used.
    """
    ports: dict[str, int] = {}
    for wishes in (before, usual):
        for name in names:
            port = wishes.get(name)
            if name not in ports and port is not None and port not in ports.values() and is_free(port):
                ports[name] = port
    for name in names:
        if name not in ports:
            ports[name] = next(port for port in fresh if port not in ports.values() and is_free(port))
    return {name: ports[name] for name in names}


def _may_precede(name: str) -> bool:
    return name in _BEFORE_THE_FILE or is_draft(name, FILE_NAME)


def check_directory(data: Path) -> None:
    """Make sure that a directory is empty, not there, or that of an earlier run.

    Raises:
        DirectoryRefused: It holds something else.
    """
    try:
        if not data.exists() or (data / FILE_NAME).exists():
            return
        others = sorted(child.name for child in data.iterdir() if not _may_precede(child.name))
    except OSError as exc:
        raise DirectoryRefused(str(data), f"can't look into it: {exc.strerror}") from exc
    if others:
        raise DirectoryRefused(str(data), f"it is not empty, and not of `tally up`: it holds {others[0]!r}")
