"""One request as this server answers it, however it was read."""

from typing import NamedTuple


class HttpRequest(NamedTuple):
    """What is asked, and how it is to be answered.

    Attributes:
        method: As it was sent, in capitals.
        path: What stands before the ``?`` of the request target, undecoded.
        query: What stands behind it, undecoded.
        keys: The values of ``Idempotency-Key``, one for each time that it was sent.
        is_http_1_0: The client speaks HTTP/1.0.
        closes: The connection ends with the answer.
    """

    method: str
    path: bytes
    query: bytes
    keys: tuple[str, ...] = ()
    is_http_1_0: bool = False
    closes: bool = False
