"""A client that sends exactly the bytes it is told, in the pieces it is told."""

import asyncio
import json
import socket
from typing import Any, NamedTuple, Self

HOST = b"Host: tally\r\n"


class Answer(NamedTuple):
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The problem that a refusal tells, after a check of its form."""
        assert self.headers["content-type"] == "application/problem+json"
        assert self.body.count(b"\n") == 1
        assert self.body.endswith(b"\n")
        told: dict[str, Any] = json.loads(self.body)
        assert told["status"] == self.status
        assert told["type"] == "about:blank"
        assert told["title"]
        assert told["detail"]
        return told


class RawClient:
    """One connection. Leaving it as a context closes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int, *, receive_bytes: int | None = None) -> Self:
        """Connect to a server on this machine; ``receive_bytes``: what the kernel takes in before it is read."""
        if receive_bytes is None:
            return cls(*await asyncio.open_connection("127.0.0.1", port))
        connecting = socket.socket()
        connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connecting.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connecting, ("127.0.0.1", port))
        return cls(*await asyncio.open_connection(sock=connecting, limit=receive_bytes))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.abort()

    async def send(self, *pieces: bytes) -> None:
        """Send each piece in a packet of its own."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0.001)

    async def answer(self, method: str = "GET") -> Answer:
        """Read one answer; that of a HEAD has no body whatever its headers say."""
        async with asyncio.timeout(5):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            length = 0 if method == "HEAD" else int(headers.get("content-length", 0))
            return Answer(int(first.split(" ")[1]), headers, await self._reader.readexactly(length))

    async def ask(self, method: str, target: bytes | str, *, headers: bytes = b"", body: bytes = b"") -> Answer:
        """Send one well-formed request and read its answer."""
        raw = target.encode() if isinstance(target, str) else target
        if body:
            headers += b"Content-Length: %d\r\n" % len(body)
        await self.send(method.encode() + b" " + raw + b" HTTP/1.1\r\n" + HOST + headers + b"\r\n" + body)
        return await self.answer(method)

    def end(self) -> None:
        """Say that nothing more comes, as ``nc -N`` does, and go on reading."""
        self._writer.write_eof()

    async def is_closed(self, within_s: float = 3.0) -> bool:
        """Tell whether the server closes the connection in time, without another byte."""
        try:
            async with asyncio.timeout(within_s):
                return await self._reader.read(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def close(self) -> None:
        """Go away as programs do, with an end and not a reset."""
        self._writer.close()

    def abort(self) -> None:
        """Go away without a word."""
        self._writer.transport.abort()
