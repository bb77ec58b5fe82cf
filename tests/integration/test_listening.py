"""Where servers can be reached, by what they are told to listen on."""

import asyncio
import socket

import grpc.aio
import pytest

from shard.rpc.servers import listen as grpc_listen
from tally.address import Address
from tally.errors import AddressTaken
from tally.listening import check_free, listen, listens_at
from tally.monitor.door import MetricsDoor

OPTION = "--listen"


async def reaches(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


def free_port() -> int:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as held:
        port: int = held.getsockname()[1]
        return port


async def test_http_on_all_of_ipv6_takes_ipv4_too() -> None:
    server = await listen(asyncio.Protocol, Address("::", 0), OPTION, backlog=8)
    there = listens_at(server)
    try:
        assert there.host == "::"
        assert str(there) == f"[::]:{there.port}"
        assert await reaches("127.0.0.1", there.port)
        assert await reaches("::1", there.port)
    finally:
        server.close()


async def test_metrics_on_all_of_ipv6_take_ipv4_too() -> None:
    door = MetricsDoor(lambda: b"", "text/plain")
    there = await door.listen(Address("::", 0))
    try:
        assert await reaches("127.0.0.1", there.port)
        assert await reaches("::1", there.port)
    finally:
        await door.close()


async def test_grpc_on_all_of_ipv6_takes_ipv4_too() -> None:
    server, port = grpc.aio.server(), free_port()
    grpc_listen(server, Address("::", port), OPTION)
    await server.start()
    try:
        assert await reaches("127.0.0.1", port)
        assert await reaches("::1", port)
    finally:
        await server.stop(None)


async def test_one_ipv4_address_is_no_other() -> None:
    server = await listen(asyncio.Protocol, Address("127.0.0.1", 0), OPTION, backlog=8)
    try:
        assert not await reaches("::1", listens_at(server).port)
    finally:
        server.close()


async def test_all_of_ipv6_is_taken_where_ipv4_has_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = Address("::", held.getsockname()[1])
        with pytest.raises(AddressTaken, match="in use"):
            check_free(OPTION, address)
        with pytest.raises(AddressTaken, match="in use"):
            await listen(asyncio.Protocol, address, OPTION, backlog=8)
