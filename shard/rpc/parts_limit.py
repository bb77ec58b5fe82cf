"""Messages between nodes that have too many parts are not unpacked: each would cost many times its bytes in memory."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]

PARTS_MAX: Final = 70_000
"""Repeated messages at the top of one, all kinds together; the most are the changes of rows of a whole map."""

SMALL_BYTES: Final = 2 * PARTS_MAX  # Has no more, whatever it is.


def has_too_many_parts(data: bytes) -> bool:
    """Tell whether a message has more than ``PARTS_MAX`` fields, or is none at all. Pure."""
    if len(data) <= SMALL_BYTES:
        return False
    at = parts = 0
    size = len(data)
    while at < size and parts <= PARTS_MAX:
        parts += 1
        wire_type = data[at] & 7
        at = _after_varint(data, at)
        if wire_type == 2:
            length = shift = 0
            while at < size:
                byte = data[at]
                at += 1
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            at += length
        elif wire_type == 0:
            at = _after_varint(data, at)
        else:
            at += {1: 8, 5: 4}.get(wire_type, size)
    return parts > PARTS_MAX or at != size


def _after_varint(data: bytes, at: int) -> int:
    while at < len(data) and data[at] >= 0x80:
        at += 1
    return at + 1


class PartsLimit(grpc.aio.ServerInterceptor):
    """Stands before all methods of a server."""

    def __init__(self) -> None:
        self._behind: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Return what serves a call; a message with too many parts ends it."""
        method = handler_call_details.method
        if method not in self._behind:
            handler: Any = await continuation(handler_call_details)
            if handler is None:
                return None
            self._behind[method] = handler._replace(request_deserializer=_limited(handler.request_deserializer))
        return self._behind[method]


def _limited(unpack: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def unpack_if_few(data: bytes) -> Any:
        if has_too_many_parts(data):
            raise ValueError("a message with too many parts")
        return unpack(data)

    return unpack_if_few
