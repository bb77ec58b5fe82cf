"""How long a channel looks for a server that comes back with another address under its name.

A program of its own:

    python -m tests.support.moved_name shard|etcd

/etc/hosts of a mount namespace of its own says where the name is, so nobody else's names change. It prints seconds.
Needs root.
"""

import asyncio
import ctypes
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import grpc.aio
from etcd3 import etcdrpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tally.client.channel import SERVER_OPTIONS, open_channel
from tally.cluster.etcd import Etcd, EtcdSettings
from tally.errors import EtcdUnavailable

NAME: Final = "moves.test"
BEFORE, AFTER = "127.0.1.1", "127.0.1.2"
WAIT_MAX_S: Final = 20.0
AWAY_S: Final = 0.3  # So long nobody is there, and the channel finds that out.

_CLONE_NEWNS: Final = 0x00020000
_SLAVE_RECURSIVE: Final = 0x4000 | 0x80000

Ask = Callable[[], Awaitable[bool]]


class _Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    async def Check(self, _request: health_pb2.HealthCheckRequest, _context: object) -> health_pb2.HealthCheckResponse:
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


class _Kv(etcdrpc.KVServicer):  # type: ignore[misc]
    async def Range(self, _request: Any, _context: object) -> Any:
        return etcdrpc.RangeResponse()


async def _serve(address: str, port: int) -> grpc.aio.Server:
    server = grpc.aio.server(options=SERVER_OPTIONS)
    health_pb2_grpc.add_HealthServicer_to_server(_Health(), server)
    etcdrpc.add_KVServicer_to_server(_Kv(), server)
    server.add_insecure_port(f"{address}:{port}")
    await server.start()
    return server


def _move(hosts: Path, address: str) -> None:
    hosts.write_text(f"127.0.0.1 localhost\n{address} {NAME}\n")


async def _until(answered: Ask) -> float:
    began = time.monotonic()
    while not await answered():
        if time.monotonic() - began > WAIT_MAX_S:
            raise TimeoutError(f"no answer for {WAIT_MAX_S:.0f} s")
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def _measure(ask: Ask, hosts: Path, port: int) -> float:
    server = await _serve(BEFORE, port)
    await _until(ask)
    await server.stop(None)
    until = time.monotonic() + AWAY_S
    while time.monotonic() < until:
        await ask()
        await asyncio.sleep(0.05)
    _move(hosts, AFTER)
    server = await _serve(AFTER, port)
    took_s = await _until(ask)
    await server.stop(None)
    return took_s


async def _shard(hosts: Path, port: int) -> float:
    async with open_channel(f"{NAME}:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        async def ask() -> bool:
            try:
                await stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
            except grpc.aio.AioRpcError:
                return False
            return True

        return await _measure(ask, hosts, port)


async def _etcd(hosts: Path, port: int) -> float:
    etcd = Etcd(EtcdSettings(endpoints=(f"{NAME}:{port}",)))

    async def ask() -> bool:
        try:
            await etcd.read("/")
        except EtcdUnavailable:
            return False
        return True

    try:
        return await _measure(ask, hosts, port)
    finally:
        await etcd.close()


def _own_mounts() -> None:
    """Leave the mounts of the rest of the machine alone from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0 or libc.mount(b"none", b"/", None, _SLAVE_RECURSIVE, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main(kind: str) -> None:
    """Measure one kind of channel."""
    _own_mounts()
    with tempfile.TemporaryDirectory(prefix="tally-hosts-") as directory:
        hosts = Path(directory) / "hosts"
        _move(hosts, BEFORE)
        subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
        with socket.create_server((BEFORE, 0)) as taken:
            port = taken.getsockname()[1]
        sys.stdout.write(str(asyncio.run({"shard": _shard, "etcd": _etcd}[kind](hosts, port))))
        subprocess.run(["umount", "/etc/hosts"], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
