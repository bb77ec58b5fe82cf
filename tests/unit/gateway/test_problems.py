"""Problems as RFC 9457 wants them, and which malformed HTTP gets which."""

import json
from http import HTTPStatus

import pytest
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, BadStatusLine, HttpProcessingError, LineTooLong

from gateway.malformed import HEADER_BYTES_MAX, TARGET_BYTES_MAX, refusal_of_error
from gateway.problems import Refused, invalid_event, problem, refused, set_aside
from tally.errors import InvalidEvent, SetAside


def test_problem_is_one_line_that_names_the_parameter() -> None:
    answer = invalid_event(InvalidEvent("user", "must not be empty"))
    assert answer.body.count(b"\n") == 1
    assert json.loads(answer.body) == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "user must not be empty",
        "parameter": "user",
    }
    assert dict(answer.headers)["Content-Type"] == "application/problem+json"


def test_odd_name_of_a_parameter_stays_one_line() -> None:
    answer = invalid_event(InvalidEvent("a\r\nb\u2028\ufffd", "is not a parameter here"))
    assert len(answer.body.splitlines()) == 1
    assert answer.body.isascii()


def test_only_unavailable_says_when_to_come_again() -> None:
    assert dict(problem(HTTPStatus.SERVICE_UNAVAILABLE, "no").headers)["Retry-After"] == "1"
    assert "Retry-After" not in dict(problem(HTTPStatus.BAD_REQUEST, "no").headers)


def test_event_that_is_set_aside_is_unavailable_until_it_is_not_any_more() -> None:
    answer = set_aside(SetAside(0, 12.3))
    assert json.loads(answer.body) == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "the event is set aside: shards crashed while they counted it",
    }
    assert dict(answer.headers)["Retry-After"] == "13"


def test_refusal_closes_the_connection() -> None:
    assert refused(Refused(HTTPStatus.REQUEST_TIMEOUT, "too slow")).closes
    assert not problem(HTTPStatus.BAD_REQUEST, "no").closes


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LineTooLong(b"GET /ann", TARGET_BYTES_MAX), 414),
        (LineTooLong(b"cookie", HEADER_BYTES_MAX), 431),
        (BadHttpMessage("Too many headers received"), 431),
        (BadHttpMessage("Missing 'Host' header in request."), 400),
        (BadHttpMethod("ann"), 400),
        (BadStatusLine("ann"), 400),
    ],
)
def test_malformed_input_is_refused_without_being_quoted(error: HttpProcessingError, status: int) -> None:
    refusal = refusal_of_error(error)
    assert refusal.status == status
    assert "ann" not in refusal.detail
