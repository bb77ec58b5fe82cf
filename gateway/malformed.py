"""What is not acceptable as HTTP, and the answer to it. Pure.

The texts are ours: aiohttp's errors quote the input, and that may hold a user's name.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs
from aiohttp.http import HttpVersion, HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMethod, BadStatusLine, HttpProcessingError, InvalidURLError, LineTooLong

from gateway.problems import Refused

HEAD_BYTES_MAX: Final = 32_768
TARGET_BYTES_MAX: Final = 8190
# Another number than the target's: it is all that tells aiohttp's two kinds of LineTooLong apart.
HEADER_BYTES_MAX: Final = 8192
HEADERS_MAX: Final = 64

_HEADERS_TOO_LARGE: Final = (
    f"at most {HEADERS_MAX} headers, each of at most {HEADER_BYTES_MAX} bytes, and {HEAD_BYTES_MAX} bytes in all"
)

# RFC 3986, host and port: a name, percent-encoded or not, an IPv4 address, or an IPv6 address in brackets.
_HOST: Final = re.compile(
    r"(?:\[[0-9A-Fa-f:.]{2,45}\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2}){0,255})(?::[0-9]{0,5})?"
)


def is_host(value: str) -> bool:
    """Tell whether this can be the value of a ``Host`` header; an empty one can."""
    return _HOST.fullmatch(value) is not None


def refusal_of_head(message: RawRequestMessage) -> Refused | None:
    """Return why a request that aiohttp could parse is not served; None if it is."""
    if message.version not in (HttpVersion11, HttpVersion10):
        return Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this server speaks HTTP/1.1 and HTTP/1.0")
    if not message.path.startswith("/"):
        return Refused(HTTPStatus.BAD_REQUEST, "the request target must be a path, with a query; this is not a proxy")
    hosts = message.headers.getall(hdrs.HOST, [])
    if len(hosts) > 1 or not all(map(is_host, hosts)):
        return Refused(HTTPStatus.BAD_REQUEST, "the Host header must be one host, with a port or without")
    if any(expected != "100-continue" for expected in _tokens(message, hdrs.EXPECT)):
        return Refused(HTTPStatus.EXPECTATION_FAILED, "nothing but 100-continue can be expected of this server")
    return _refusal_of_codings(_tokens(message, hdrs.TRANSFER_ENCODING), message.version)


def _refusal_of_codings(codings: Sequence[str], version: HttpVersion) -> Refused | None:
    if codings and version == HttpVersion10:
        return Refused(HTTPStatus.BAD_REQUEST, "HTTP/1.0 has no Transfer-Encoding")
    if any(coding != "chunked" for coding in codings):
        return unknown_coding()
    if len(codings) > 1:
        return Refused(HTTPStatus.BAD_REQUEST, "the body is chunked more than once")
    return None


def expects_continue(message: RawRequestMessage) -> bool:
    """Tell whether the client waits for a word before it sends the body."""
    return message.version >= HttpVersion11 and hdrs.EXPECT in message.headers


def _tokens(message: RawRequestMessage, name: str) -> list[str]:
    """Return what a header lists, over all its lines."""
    return [token.strip(" \t").lower() for line in message.headers.getall(name, []) for token in line.split(",")]


def refusal_of_error(error: HttpProcessingError) -> Refused:
    """Return the answer to input that aiohttp could not parse."""
    if isinstance(error, LineTooLong):
        if error.args[1] == TARGET_BYTES_MAX:
            return Refused(HTTPStatus.REQUEST_URI_TOO_LONG, f"the URI must be at most {TARGET_BYTES_MAX} bytes long")
        return headers_too_large()
    # There are no classes for these; the tests of 431 and 501 notice when the texts change.
    if error.message.startswith("Too many headers"):
        return headers_too_large()
    if error.message.startswith(("Request has invalid `Transfer-Encoding`", "Invalid `Transfer-Encoding`")):
        return unknown_coding()
    return Refused(HTTPStatus.BAD_REQUEST, _explained(error))


def headers_too_large() -> Refused:
    """Return the refusal of a head that is too large, or of one of its lines."""
    return Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _HEADERS_TOO_LARGE)


def not_well_formed() -> Refused:
    """Return the refusal of what is no request at all."""
    return Refused(HTTPStatus.BAD_REQUEST, "this is not a well-formed HTTP/1.1 request")


def unknown_coding() -> Refused:
    """Return the refusal of a body that is coded in a way that this server does not know."""
    return Refused(HTTPStatus.NOT_IMPLEMENTED, "of the codings of a body this server knows only chunked")


def _explained(error: HttpProcessingError) -> str:
    if isinstance(error, BadHttpMethod):
        return "this is not an HTTP method"
    if isinstance(error, BadStatusLine):
        return "the request line must be: method, path, HTTP/1.1"
    if isinstance(error, InvalidURLError):
        return "the URI has bytes that must be percent-encoded"
    return not_well_formed().detail
