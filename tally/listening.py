"""What every server of ours does to listen: on `::` it takes IPv4 too, and what can't be had is told by its option."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from tally.address import Address
from tally.errors import AddressTaken

_EVERYWHERE: Final = "::"


async def listen(
    make: Callable[[], asyncio.BaseProtocol],
    address: Address,
    option: str,
    *,
    backlog: int,
    reuse_port: bool = False,
) -> asyncio.Server:
    """Take connections at ``address``; port 0 is any free one.

    Args:
        make: Makes the protocol of each connection.
        address: Where.
        option: What the address was given with.
        backlog: How many connections may wait to be taken.
        reuse_port: Other processes listen there too, and share the connections.

    Raises:
        AddressTaken: It can't be listened on.
    """
    loop = asyncio.get_running_loop()
    try:
        if address.host == _EVERYWHERE:
            # asyncio would make it a socket for IPv6 alone.
            both = socket.create_server(
                address, family=socket.AF_INET6, dualstack_ipv6=True, backlog=backlog, reuse_port=reuse_port
            )
            return await loop.create_server(make, sock=both, backlog=backlog)
        # reuse_address: a restart must not wait for the old connections' TIME_WAIT.
        return await loop.create_server(
            make, address.host, address.port, backlog=backlog, reuse_address=True, reuse_port=reuse_port
        )
    except OSError as exc:
        raise AddressTaken(option, str(address), exc.errno) from exc


def listens_at(server: asyncio.Server) -> Address:
    """Return where a server listens; of several addresses the first."""
    return Address(*server.sockets[0].getsockname()[:2])


def check_free(option: str, address: Address) -> None:
    """Make sure that something can listen there.

    Raises:
        AddressTaken: Nothing can.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As servers do: what a connection of yesterday left behind is no hindrance.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if address.host == _EVERYWHERE:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            probe.bind(address)
    except OSError as exc:
        raise AddressTaken(option, str(address), exc.errno) from exc
