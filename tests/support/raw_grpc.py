"""gRPC by hand, for clients that no library would be: calls without their message, with a part of it, unread answers.

Nothing that comes back is understood.
"""

import socket
import struct
from typing import Final, Self

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_HEADERS: Final = 4
_INITIAL_WINDOW: Final = 4  # The setting's number.


class RawClient:
    """One connection, which begins calls and need not end them."""

    def __init__(self, address: str, *, window: int | None = None) -> None:
        """Connect.

        Args:
            address: ``host:port``.
            window: How many bytes of each answer the server may send; None: as usual.
        """
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self._host = host
        self._next_stream = 1
        settings = b"" if window is None else struct.pack(">HI", _INITIAL_WINDOW, window)
        self.socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def begin(self, method: str, data: bytes = b"", *, ends: bool = False) -> None:
        """Begin a call, and send some bytes of its body; without ``ends`` more may come."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        head = b"".join(
            _literal(name, value)
            for name, value in (
                (b":method", b"POST"),
                (b":scheme", b"http"),
                (b":path", method.encode()),
                (b":authority", self._host.encode()),
                (b"content-type", b"application/grpc"),
                (b"te", b"trailers"),
            )
        )
        frames = [_frame(_HEADERS, _END_HEADERS, stream, head)]
        if data or ends:
            frames.append(_frame(_DATA, int(ends), stream, data))
        self.socket.sendall(b"".join(frames))


def message(data: bytes, *, length: int | None = None) -> bytes:
    """Return a message as it stands in a body; ``length``: what it says of itself, if that is not true."""
    return struct.pack(">BI", 0, len(data) if length is None else length) + data


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    assert len(name) < 127
    assert len(value) < 127
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
