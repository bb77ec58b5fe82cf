"""What the door for monitors answers to which request."""

import pytest

from tally.monitor.door import answer_to


def answered(head: bytes) -> tuple[bytes, bytes]:
    """Return the status line and the body."""
    whole, _, body = answer_to(head, lambda: b"figures\n", "text/plain; version=0.0.4").partition(b"\r\n\r\n")
    assert b"\r\nConnection: close" in whole
    return whole.partition(b"\r\n")[0], body


@pytest.mark.parametrize("target", [b"/metrics", b"/metrics?name%5B%5D=up"])
def test_figures_are_given_to_who_asks_for_them(target: bytes) -> None:
    head = b"GET " + target + b" HTTP/1.1\r\nHost: shard\r\n\r\n"
    assert answered(head) == (b"HTTP/1.1 200 OK", b"figures\n")
    whole = answer_to(head, lambda: b"figures\n", "text/plain; version=0.0.4")
    assert b"\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: 8\r\n" in whole


def test_the_head_of_the_figures_has_their_length_and_no_body() -> None:
    whole = answer_to(b"HEAD /metrics HTTP/1.1\r\n\r\n", lambda: b"figures\n", "text/plain")
    assert b"\r\nContent-Length: 8\r\n" in whole
    assert whole.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /metricsx HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"\x16\x03\x01\r\n\r\n", b"400"),
    ],
)
def test_anything_else_is_refused_and_no_figures_are_made(head: bytes, status: bytes) -> None:
    def page() -> bytes:
        raise AssertionError("nobody asked for it")

    assert answer_to(head, page, "text/plain").split(b" ")[1] == status
