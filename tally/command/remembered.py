"""What ``tally up`` remembers in its data directory, so that the next run finds the same ports."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from tally.errors import DirectoryRefused

FILE_NAME: Final = "tally-up.json"


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

    def shards(self) -> list[str]:
        """Return the shards that have data there."""
        return [name for name in self.ports if not name.startswith("etcd")]

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(self), indent=2) + "\n")
        new.replace(path)

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
            raise DirectoryRefused(str(path.parent), f"can't read {path.name} in it: {exc}") from exc


def choose_ports(
    names: Iterable[str], before: Mapping[str, int], is_free: Callable[[int], bool], fresh: Iterator[int]
) -> dict[str, int]:
    """Give each name the port that it had, or a fresh one if it had none or another program has that now. Pure.

    Args:
        names: Who needs a port.
        before: Who had which.
        is_free: Whether a port can be used.
        fresh: Ports that can be used.
    """
    ports: dict[str, int] = {}
    for name in names:
        port = before.get(name)
        while port is None or port in ports.values() or not is_free(port):
            port = next(fresh)
        ports[name] = port
    return ports
