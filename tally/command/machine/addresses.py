"""Addresses of this machine: whether they are free to listen on, and how they are reached."""

import socket
from collections.abc import Iterator
from typing import Final

from tally.address import Address
from tally.errors import AddressTaken
from tally.listening import check_free

LOOPBACK: Final = "127.0.0.1"
_EVERYWHERE: Final = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 - to recognise it.


def url_of(address: Address) -> str:
    """Return where this machine reaches an HTTP server that listens on ``address``."""
    return f"http://{Address(_EVERYWHERE.get(address.host, address.host), address.port)}"


def port_is_free(port: int) -> bool:
    """Say whether something can listen on this port of 127.0.0.1."""
    try:
        check_free("port", Address(LOOPBACK, port))
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
