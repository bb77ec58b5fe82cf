"""What is not acceptable as HTTP, and the answer to it. Pure.

The texts are ours: aiohttp's errors quote the input, and that may hold a user's name.
"""

from http import HTTPStatus
from typing import Final

from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMethod, BadStatusLine, HttpProcessingError, InvalidURLError, LineTooLong

from gateway.problems import Refused

TARGET_BYTES_MAX: Final = 8190
# Another number than the target's: it is all that tells aiohttp's two kinds of LineTooLong apart.
HEADER_BYTES_MAX: Final = 8192
HEADERS_MAX: Final = 64

_HEADERS_TOO_LARGE: Final = f"at most {HEADERS_MAX} headers, each of at most {HEADER_BYTES_MAX} bytes"


def refusal_of_head(message: RawRequestMessage) -> Refused | None:
    """Return why a request that aiohttp could parse is not served; None if it is."""
    if message.version not in (HttpVersion11, HttpVersion10):
        return Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "this server speaks HTTP/1.1 and HTTP/1.0")
    if not message.path.startswith("/"):
        return Refused(HTTPStatus.BAD_REQUEST, "the request target must be a path, with a query; this is not a proxy")
    return None


def refusal_of_error(error: HttpProcessingError) -> Refused:
    """Return the answer to input that aiohttp could not parse."""
    if isinstance(error, LineTooLong):
        if error.args[1] == TARGET_BYTES_MAX:
            return Refused(HTTPStatus.REQUEST_URI_TOO_LONG, f"the URI must be at most {TARGET_BYTES_MAX} bytes long")
        return Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _HEADERS_TOO_LARGE)
    # There is no class for it; the test of 431 notices when the text changes.
    if error.message.startswith("Too many headers"):
        return Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _HEADERS_TOO_LARGE)
    return Refused(HTTPStatus.BAD_REQUEST, _explained(error))


def _explained(error: HttpProcessingError) -> str:
    if isinstance(error, BadHttpMethod):
        return "this is not an HTTP method"
    if isinstance(error, BadStatusLine):
        return "the request line must be: method, path, HTTP/1.1"
    if isinstance(error, InvalidURLError):
        return "the URI has bytes that must be percent-encoded"
    return "this is not a well-formed HTTP/1.1 request"
