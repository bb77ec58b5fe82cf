"""Addresses to listen on: reading them, and finding out whether they are free."""

import errno
import socket
from collections.abc import Iterator
from typing import Final, NamedTuple

from tally.errors import ConfigError, TallyError

LOOPBACK: Final = "127.0.0.1"
_EVERYWHERE: Final = {"0.0.0.0": LOOPBACK, "::": "[::1]", "": LOOPBACK}  # noqa: S104 - to recognise it.


class AddressTaken(TallyError):
    """Nothing can listen there."""

    def __init__(self, option: str, address: str, reason: str) -> None:
        super().__init__(option, address, reason)
        self.option = option
        self.address = address
        self.reason = reason

    def __str__(self) -> str:
        return f"can't listen on {self.address}: {self.reason}; end what listens there, or choose another {self.option}"


class Address(NamedTuple):
    """``host:port``."""

    host: str
    port: int

    @classmethod
    def parse(cls, option: str, text: str) -> "Address":
        """Read ``host:port`` or ``[IPv6]:port``.

        Raises:
            ConfigError: It is not that; the error names ``option``.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= 65_535:
            raise ConfigError(option, text, "host:port, the port 1 to 65535")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Where this machine reaches it over HTTP."""
        host = _EVERYWHERE.get(self.host) or str(self).rpartition(":")[0]
        return f"http://{host}:{self.port}"

    def check_free(self, option: str) -> None:
        """Make sure that something can listen there.

        Raises:
            AddressTaken: Nothing can.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                # As servers do: what a connection of yesterday left behind is no hindrance.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((self.host, self.port))
        except OSError as exc:
            reason = "it is in use" if exc.errno == errno.EADDRINUSE else exc.strerror or str(exc)
            raise AddressTaken(option, str(self), reason) from exc


def port_is_free(port: int) -> bool:
    """Say whether something can listen on this port of 127.0.0.1."""
    try:
        Address(LOOPBACK, port).check_free("port")
    except AddressTaken:
        return False
    return True


def fresh_ports() -> Iterator[int]:
    """Give free ports of 127.0.0.1, no port twice."""
    given: set[int] = set()
    while True:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
        if port not in given:
            given.add(port)
            yield port
