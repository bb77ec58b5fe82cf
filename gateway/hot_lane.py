"""The hot lane: requests that clients send all the time are read straight from their bytes.

A request is read here if it is, from its first byte to its last, of this form:

    POST or GET /analytics?... HTTP/1.1
    Host, and headers that change nothing about the answer, each at most once
    Idempotency-Key, or not

Everything else, whatever is wrong with it, is left to aiohttp's parser, and answered alike: ``test_hot_lane.py`` sends
the same bytes down both lanes. A client sends the same headers with each request, so a block of them is looked at once.
"""

import re
from typing import Final

from gateway.malformed import is_host
from gateway.request import HttpRequest

HOT_BYTES_MAX: Final = 2048
_BLOCKS_MAX: Final = 1024
_HEADERS_MAX: Final = 32  # Far below what aiohttp is told to refuse.

# Printable ASCII but for #, which is an error here, and for spaces, which end the target.
_REQUEST: Final = re.compile(rb'(POST|GET) /analytics\?([!"$-~]*) HTTP/1\.1\r\n(.*\r\n)\r\n', re.DOTALL)
_KEY: Final = re.compile(rb"(?:^|(?<=\r\n))Idempotency-Key: ([!-~](?:[ -~]*[!-~])?)\r\n", re.IGNORECASE)
_HEADER: Final = re.compile(rb"([A-Za-z][A-Za-z0-9-]*): ([!-~](?:[ -~]*[!-~])?)")

_PASSIVE: Final = frozenset(
    {
        *(b"accept", b"accept-encoding", b"accept-language", b"authorization", b"baggage", b"cache-control"),
        *(b"content-type", b"cookie", b"dnt", b"forwarded", b"host", b"origin", b"pragma", b"priority", b"referer"),
        *(b"traceparent", b"tracestate", b"user-agent", b"via"),
    }
)
_PASSIVE_BEGIN: Final = (b"x-", b"sec-fetch-", b"sec-ch-")  # Nobody's framing hangs on these.
_PASSIVE_AS: Final = {b"connection": b"keep-alive", b"content-length": b"0"}
_PATH: Final = b"/analytics"
_METHODS: Final = {b"POST": "POST", b"GET": "GET"}


class HotLane:
    """Reads requests, and remembers which blocks of headers change nothing."""

    def __init__(self) -> None:
        self._passive: dict[bytes, bool] = {}

    def read(self, chunk: bytes) -> HttpRequest | None:
        """Return the one request that ``chunk`` is; None if it is for aiohttp."""
        found = _REQUEST.fullmatch(chunk)
        if found is None:
            return None
        method, query, block = found.groups()
        if self._passive.get(block):
            return HttpRequest(_METHODS[method], _PATH, query)
        key = _KEY.search(block)
        if key is not None:
            block = block[: key.start()] + block[key.end() :]
        if not self._is_passive(block):
            return None
        return HttpRequest(_METHODS[method], _PATH, query, () if key is None else (key[1].decode("ascii"),))

    def _is_passive(self, block: bytes) -> bool:
        known = self._passive.get(block)
        if known is None:
            if len(self._passive) >= _BLOCKS_MAX:
                self._passive.clear()
            known = self._passive[block] = changes_nothing(block)
        return known


def changes_nothing(block: bytes) -> bool:
    """Tell whether headers, each with its line end, are well-formed and change nothing about the answer."""
    names = set()
    *lines, rest = block.split(b"\r\n")
    if rest or len(lines) > _HEADERS_MAX:
        return False  # Nothing is passed over unread because its line end is missing.
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            return False  # A lone CR or LF, for one.
        name = header[1].lower()
        passive = name in _PASSIVE or name.startswith(_PASSIVE_BEGIN) or header[2] == _PASSIVE_AS.get(name)
        if name in names or not passive:
            return False
        if name == b"host" and not is_host(header[2].decode("ascii")):
            return False
        names.add(name)
    return b"host" in names
