"""What each good request is answered, and what the backend's failures become."""

from typing import Any

import pytest

from gateway.app import App
from tally.errors import InDoubt, InvalidEvent, Overloaded, Unavailable
from tests.support.http_door import GOOD, HOUR, TIMESTAMP
from tests.support.memory_backend import MemoryBackend
from tests.support.raw_http import RawClient

ZEROS = b"unique_users,0\nclicks,0\nimpressions,0\n"


async def test_event_is_counted_and_told(client: RawClient) -> None:
    answer = await client.ask("POST", GOOD)
    assert (answer.status, answer.body) == (204, b"")
    assert not {"content-type", "content-length"} & answer.headers.keys()
    await client.ask("POST", f"/analytics?{TIMESTAMP}&user=ann&impression=")
    await client.ask("POST", f"/analytics?impression&user=bob&{TIMESTAMP}")

    answer = await client.ask("GET", f"/analytics?{TIMESTAMP}")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.body == b"unique_users,2\nclicks,1\nimpressions,2\n"


async def test_hour_without_data_is_zeros(client: RawClient) -> None:
    assert (await client.ask("GET", "/analytics?timestamp=0")).body == ZEROS


@pytest.mark.parametrize(
    ("spelled", "user"),
    [
        ("a+b", b"a b"),
        ("a%20b", b"a b"),
        ("1%2B1", b"1+1"),
        ("%C3%A9", b"\xc3\xa9"),
        ("e%CC%81", b"e\xcc\x81"),
        ("a?b?", b"a?b?"),
        ("a=/b", b"a=/b"),
        ("%23", b"#"),
        ("%25ff", b"%ff"),
        ("%C2%A0", b"\xc2\xa0"),
        ("%E2%80%AEnna", b"\xe2\x80\xaenna"),
        ("u" * 256, b"u" * 256),
    ],
)
async def test_user_arrives_byte_for_byte(client: RawClient, backend: MemoryBackend, spelled: str, user: bytes) -> None:
    assert (await client.ask("POST", f"/analytics?{TIMESTAMP}&click&user={spelled}")).status == 204
    assert backend.users[HOUR] == {user}


async def test_timestamp_in_seconds_is_counted_with_one_warning(
    client: RawClient, backend: MemoryBackend, log: list[Any]
) -> None:
    for seconds in (1_700_000_000, 1_700_000_001):
        assert (await client.ask("POST", f"/analytics?timestamp={seconds}&user=ann&click")).status == 204
    assert backend.events == 2
    assert [line["event"] for line in log] == ["timestamps_look_like_seconds"]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("failure", [Overloaded("the queue of events", 10), Unavailable("slot 7 is away"), InDoubt()])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_can_be_sent_again_is_503(
    client: RawClient, backend: MemoryBackend, failure: Exception, at_once: bool, method: str
) -> None:
    backend.failure, backend.fails_at_once = failure, at_once
    answer = await client.ask(method, GOOD if method == "POST" else f"/analytics?{TIMESTAMP}")
    assert answer.problem["status"] == 503
    assert answer.headers["retry-after"] == "1"
    backend.failure = None
    assert (await client.ask("POST", GOOD)).status == 204
    assert backend.events == 1


async def test_refusal_by_the_shard_is_400(client: RawClient, backend: MemoryBackend) -> None:
    backend.failure = InvalidEvent("user", "must be valid UTF-8")
    assert (await client.ask("POST", GOOD)).problem["parameter"] == "user"


async def test_other_failure_is_500_that_tells_nothing(
    client: RawClient, backend: MemoryBackend, log: list[Any]
) -> None:
    backend.failure = RuntimeError("the secret of ann")
    answer = await client.ask("POST", GOOD)
    assert answer.problem["status"] == 500
    assert b"secret" not in answer.body
    assert log.pop()["exc_info"]
    assert not log
    backend.failure = None
    assert (await client.ask("POST", GOOD)).status == 204


# Health.


async def test_health_says_only_that_the_process_runs(client: RawClient, backend: MemoryBackend) -> None:
    backend.reasons = ["3 slots have no primary"]
    answer = await client.ask("GET", "/healthz")
    assert (answer.status, answer.body) == (200, b"ok\n")


async def test_ready_once_every_slot_was_served_and_until_the_end(
    client: RawClient, backend: MemoryBackend, app: App
) -> None:
    backend.reasons = ["3 slots have no primary"]
    answer = await client.ask("GET", "/readyz")
    assert (answer.status, answer.body) == (503, b"not ready\n3 slots have no primary\n")

    backend.reasons = []
    answer = await client.ask("GET", "/readyz")
    assert (answer.status, answer.body) == (200, b"ready\n")

    backend.reasons = ["1 slot has no primary"]
    answer = await client.ask("GET", "/readyz")
    assert (answer.status, answer.body) == (200, b"ready\n1 slot has no primary\n")

    backend.reasons, backend.refusals = [], ["shard s1 refuses something in slot 2: few_copies"]
    answer = await client.ask("GET", "/readyz")
    assert (answer.status, answer.body) == (200, b"ready\nshard s1 refuses something in slot 2: few_copies\n")

    app.stop()
    answer = await client.ask("GET", "/readyz")
    assert answer.status == 503
    assert b"shutting down" in answer.body
    assert answer.headers["connection"] == "close"
    assert await client.is_closed()


# HEAD.


@pytest.mark.parametrize(
    "target", [f"/analytics?{TIMESTAMP}", "/analytics?timestamp=x", "/analytics", "/healthz", "/readyz", "/x"]
)
async def test_head_is_answered_like_get_without_the_body(
    client: RawClient, backend: MemoryBackend, target: str
) -> None:
    backend.reasons = ["3 slots have no primary"]
    get, head = await client.ask("GET", target), await client.ask("HEAD", target)
    assert (head.status, head.body) == (get.status, b"")
    assert head.headers | {"date": ""} == get.headers | {"date": ""}
    assert int(head.headers["content-length"]) == len(get.body) > 0


async def test_answer_to_http_1_0_goes_on_if_the_client_asks_for_it(client: RawClient, backend: MemoryBackend) -> None:
    for _ in range(2):
        await client.send(b"POST " + GOOD.encode() + b" HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (204, "keep-alive")
    assert backend.events == 2
