"""Which bytes the hot lane reads, as what, and which it leaves to aiohttp."""

import pytest

from gateway.hot_lane import HotLane, changes_nothing
from gateway.request import HttpRequest

PATH = b"/analytics"
HOST = b"Host: tally\r\n"
GET = b"GET /analytics?timestamp=1 HTTP/1.1\r\n"
POST = b"POST /analytics?timestamp=1&user=ann&click HTTP/1.1\r\n"


def test_simple_request_is_read() -> None:
    assert HotLane().read(GET + HOST + b"\r\n") == HttpRequest("GET", PATH, b"timestamp=1")
    assert HotLane().read(POST + HOST + b"\r\n") == HttpRequest("POST", PATH, b"timestamp=1&user=ann&click")


@pytest.mark.parametrize(
    "header",
    [
        b"User-Agent: curl/8.5.0",
        b"Accept: */*",
        b"accept-encoding: gzip, deflate, br",
        b"Connection: keep-alive",
        b"Content-Length: 0",
        b"X-Forwarded-For: 10.0.0.1, 10.0.0.2",
        b"Content-Type: application/x-www-form-urlencoded",
        b"Sec-Fetch-Mode: cors",
    ],
)
def test_header_that_changes_nothing_is_passed_over(header: bytes) -> None:
    lane = HotLane()
    for _ in range(2):  # Looked at, then remembered.
        assert lane.read(POST + HOST + header + b"\r\n\r\n") == HttpRequest("POST", PATH, b"timestamp=1&user=ann&click")


@pytest.mark.parametrize("name", [b"Idempotency-Key", b"idempotency-key"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_idempotency_key_is_read_wherever_it_stands(name: bytes, place: int) -> None:
    lane = HotLane()
    for key in ("one", 'a "quoted: one'):
        lines = [b"Host: tally\r\n", b"Accept: */*\r\n"]
        lines.insert(place, name + b": " + key.encode() + b"\r\n")
        found = lane.read(POST + b"".join(lines) + b"\r\n")
        assert found == HttpRequest("POST", PATH, b"timestamp=1&user=ann&click", (key,))


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param(GET + b"\r\n", id="no host"),
        pytest.param(GET + HOST, id="not complete"),
        pytest.param(GET + HOST + b"\r\n" + GET, id="a part of the next one"),
        pytest.param((GET + HOST + b"\r\n") * 2, id="two at once"),
        pytest.param(b"\r\n" + GET + HOST + b"\r\n", id="an empty line first"),
        pytest.param(GET.replace(b"1.1", b"1.0") + HOST + b"\r\n", id="another version"),
        pytest.param(GET.replace(b"GET", b"get") + HOST + b"\r\n", id="another method"),
        pytest.param(GET.replace(b"analytics?", b"analytics") + HOST + b"\r\n", id="no query"),
        pytest.param(GET.replace(b"/", b"http://tally/", 1) + HOST + b"\r\n", id="absolute form"),
        pytest.param(GET.replace(b"=1", b"=1#") + HOST + b"\r\n", id="a raw hash"),
        pytest.param(GET.replace(b"=1", b"=1 2") + HOST + b"\r\n", id="a space in the target"),
        pytest.param(GET.replace(b"=1", b"=\xc3\xa4") + HOST + b"\r\n", id="not ASCII in the target"),
        pytest.param(GET.replace(b"\r\n", b"\n") + HOST + b"\r\n", id="bare line feed"),
        pytest.param(GET + HOST + HOST + b"\r\n", id="two hosts"),
        pytest.param(GET + HOST + b"Connection: close\r\n\r\n", id="to be closed"),
        pytest.param(POST + HOST + b"Content-Length: 3\r\n\r\n", id="a body"),
        pytest.param(POST + HOST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n", id="two lengths"),
        pytest.param(POST + HOST + b"Transfer-Encoding: chunked\r\n\r\n", id="chunks"),
        pytest.param(POST + HOST + b"Expect: 100-continue\r\n\r\n", id="waits for a word"),
        pytest.param(POST + HOST + b"Upgrade: h2c\r\n\r\n", id="an upgrade"),
        pytest.param(POST + HOST + b"Accept : */*\r\n\r\n", id="a space before the colon"),
        pytest.param(POST + HOST + b"Accept: */*\r\n folded\r\n\r\n", id="a folded header"),
        pytest.param(POST + HOST + b"Accept: \x00\r\n\r\n", id="a control byte"),
        pytest.param(POST + HOST + b"Idempotency-Key: a\r\nIdempotency-Key: b\r\n\r\n", id="two keys"),
        pytest.param(POST + HOST + b"Idempotency-Key: \xe4\r\n\r\n", id="a key that is not ASCII"),
        pytest.param(POST + HOST + b"Idempotency-Key:\r\n\r\n", id="an empty key"),
        pytest.param(POST + HOST + b"Content-Length: 5\nIdempotency-Key: k\r\n\r\n", id="a length before a bare LF"),
        pytest.param(POST + HOST + b"Transfer-Encoding: chunked\nIdempotency-Key: k\r\n\r\n", id="chunks before a LF"),
        pytest.param(POST + HOST + b"Connection: close\nIdempotency-Key: k\r\n\r\n", id="a close before a bare LF"),
        pytest.param(POST + HOST + b"Accept: */*\rIdempotency-Key: k\r\n\r\n", id="a key after a bare CR"),
        pytest.param(POST + HOST + b"\nIdempotency-Key: k\r\n\r\n", id="a key after an empty line with a bare LF"),
        pytest.param(POST + b"\nIdempotency-Key: k\r\n" + HOST + b"\r\n", id="a bare LF before the first header"),
        pytest.param(POST + HOST + b"Idempotency-Key: k\n\r\n\r\n", id="a bare LF after the key"),
        pytest.param(POST + HOST + b"Idempotency-Key: k\r\r\n\r\n", id="a bare CR after the key"),
        pytest.param(POST + HOST + b"Idempotency-Key: k\r\nTE: trailers\n\r\n", id="a bare LF at the end"),
        pytest.param(POST + HOST + b"Idempotency-Key: k\r\n\r\r\n\r\n", id="a bare CR at the end"),
        pytest.param(POST + HOST + b"TE: trailers\r\n\r\n", id="a header that is not known"),
        pytest.param(POST + HOST + b"X-A: 1\r\nX-A: 1\r\n\r\n", id="a header twice"),
        pytest.param(POST + HOST + b"".join(b"X-%d: 1\r\n" % n for n in range(65)) + b"\r\n", id="too many headers"),
    ],
)
def test_everything_else_is_left_to_aiohttp(chunk: bytes) -> None:
    lane = HotLane()
    for _ in range(2):
        assert lane.read(chunk) is None


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (HOST, True),
        (HOST + b"Accept: */*\r\n", True),
        (HOST + b"Accept: */*", False),
        (HOST + b"Accept: */*\n", False),
        (HOST + b"Accept: */*\r", False),
        (b"Accept: */*\n" + HOST, False),
        (b"Accept: */*\r" + HOST, False),
        (HOST + b"\n", False),
        (HOST + b"\r\n", False),
    ],
)
def test_each_header_must_have_its_own_whole_line_end(block: bytes, expected: bool) -> None:
    assert changes_nothing(block) is expected
