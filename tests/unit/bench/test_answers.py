"""Where an HTTP answer ends."""

import pytest

from bench.load.answers import Answer, whole_answer

REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 5\r\nConnection: close\r\n\r\nbusy\n"


def test_answer_without_a_body_ends_with_its_head() -> None:
    assert whole_answer(b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n") == Answer(204, closes=False)


@pytest.mark.parametrize("length", [0, 10, len(REFUSAL) - 6, len(REFUSAL) - 1])
def test_answer_with_bytes_missing_is_none_yet(length: int) -> None:
    assert whole_answer(REFUSAL[:length]) is None


def test_answer_tells_that_the_connection_closes() -> None:
    assert whole_answer(REFUSAL) == Answer(503, closes=True)


def test_what_is_no_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="not an answer"):
        whole_answer(b"SSH-2.0-x\r\n\r\n")
