"""What every system under test has in common."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

from bench.counts import Counts, Reader
from bench.processes import Processes
from tally.address import Address

READY_S: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a system runs.

    Attributes:
        directory: For its data and logs; on a real disk, because it has to flush.
        sockets: For Unix sockets, whose paths must be short.
        core: The core of all its processes.
    """

    directory: Path
    sockets: Path
    core: int


class System(ABC):
    """One system that answers HTTP: ``with`` starts it, and ends it.

    Attributes:
        name: Short, for options and files.
        title: For the report.
        counts: Whether it counts anything that could be checked.
        address: Where it takes HTTP, once it runs.
    """

    name: ClassVar[str]
    title: str
    counts: ClassVar[bool] = True

    def __init__(self, place: Place) -> None:
        self.place = place
        self.processes = Processes(place.core, place.directory)
        self.address = Address("", 0)

    @abstractmethod
    def start(self) -> None:
        """Start its processes, and wait until they answer."""

    def read(self, hours: list[int]) -> list[Counts]:
        """Return what it tells of these hours."""
        with Reader(self.address) as reader:
            return [reader.read(hour) for hour in hours]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.processes.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.processes.end()
