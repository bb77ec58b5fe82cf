"""What a benchmark is asked to do."""

from dataclasses import dataclass
from typing import Final

BIG_HOUR_USERS: Final = 10_000_000  # What the goals ask for.


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one run of the benchmarks.

    Attributes:
        only: Names of what to measure.
        peers: Names of the systems beside Tally.
        everywhere: Every peer and workload at every number of connections, not only where a goal asks for it.
        rounds: How often each system has its turn.
        seconds: How long a turn takes.
        connections: Numbers of connections.
        server_core: Of the systems under test.
        load_core: Of the load, and of this process.
        big_hour_users: How many users the big hour gets; with fewer than the goals ask for, these are not judged.
    """

    only: frozenset[str]
    peers: tuple[str, ...]
    everywhere: bool
    rounds: int
    seconds: float
    connections: tuple[int, ...]
    server_core: int
    load_core: int
    big_hour_users: int
