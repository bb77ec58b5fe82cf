"""What can go wrong with a benchmark, in words for whoever ran it."""

from collections.abc import Sequence


class BenchError(Exception):
    """Base of every error that ends a benchmark on purpose."""


class Missing(BenchError):
    """Programs that the benchmarks need are not there."""

    def __init__(self, packages: Sequence[str]) -> None:
        super().__init__(packages)
        self.packages = packages

    def __str__(self) -> str:
        names = " ".join(self.packages)
        return f"some of Debian's packages are needed that are not here; install them with\n  apt-get install {names}"


class ProcessEnded(BenchError):
    """A process of a system under test ended, or was not ready in time."""

    def __init__(self, name: str, why: str, last_lines: str) -> None:
        super().__init__(name, why, last_lines)
        self.name = name
        self.why = why
        self.last_lines = last_lines

    def __str__(self) -> str:
        return f"{self.name} {self.why}; the end of its log:\n{self.last_lines}"


class LoadFailed(BenchError):
    """The load generator itself failed; nothing was measured."""


class WrongCounts(BenchError):
    """A system does not count what it acknowledged: its figures mean nothing."""

    def __init__(self, system: str, what: str) -> None:
        super().__init__(system, what)
        self.system = system
        self.what = what

    def __str__(self) -> str:
        return f"{self.system} counts wrongly: {self.what}"
