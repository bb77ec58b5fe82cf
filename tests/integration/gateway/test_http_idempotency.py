"""The header Idempotency-Key over a real socket: what is one event, and what is refused."""

import pytest

from tests.support.http_door import GOOD, HOUR, TIMESTAMP
from tests.support.memory_backend import MemoryBackend
from tests.support.raw_http import RawClient


@pytest.mark.parametrize("key", [b"8e03978e-40d5", b'"8e03978e-40d5"', b"one two", b"a, b", b"k" * 128])
async def test_event_that_is_sent_again_with_its_key_is_counted_once(
    client: RawClient, backend: MemoryBackend, key: bytes
) -> None:
    for _ in range(3):
        answer = await client.ask("POST", GOOD, headers=b"Idempotency-Key: " + key + b"\r\n")
        assert (answer.status, answer.body) == (204, b"")
    assert backend.events == 1


async def test_spaces_around_the_key_and_the_case_of_the_name_are_not_part_of_it(
    client: RawClient, backend: MemoryBackend
) -> None:
    for header in (b"Idempotency-Key:k", b"idempotency-key:  k", b"IDEMPOTENCY-KEY: \tk \t"):
        assert (await client.ask("POST", GOOD, headers=header + b"\r\n")).status == 204
    assert backend.events == 1


async def test_query_that_is_written_otherwise_is_the_same_event(client: RawClient, backend: MemoryBackend) -> None:
    for target in (GOOD, f"/analytics?click=&user=%61nn&{TIMESTAMP}", f"/analytics?click&user=ann&{TIMESTAMP[:-1]}1"):
        assert (await client.ask("POST", target, headers=b"Idempotency-Key: k\r\n")).status == 204
    assert backend.events == 1


async def test_key_belongs_to_the_event(client: RawClient, backend: MemoryBackend) -> None:
    """Another user, kind or hour, or another key, is another event."""
    bob, impression = GOOD.replace("ann", "bob"), GOOD.replace("click", "impression")
    for target in (GOOD, bob, impression, GOOD.replace("timestamp=17", "timestamp=16")):
        assert (await client.ask("POST", target, headers=b"Idempotency-Key: k\r\n")).status == 204
    assert (await client.ask("POST", GOOD, headers=b'Idempotency-Key: "k"\r\n')).status == 204
    assert backend.events == 5
    assert backend.users[HOUR] == {b"ann", b"bob"}


async def test_equal_events_without_a_key_are_separate(client: RawClient, backend: MemoryBackend) -> None:
    for headers in (b"", b"", b"Idempotency-Key: k\r\n"):
        assert (await client.ask("POST", GOOD, headers=headers)).status == 204
    assert backend.events == 3


@pytest.mark.parametrize(
    "headers",
    [
        b"Idempotency-Key:\r\n",
        b"Idempotency-Key: \r\n",
        b"Idempotency-Key: \t \r\n",
        b"Idempotency-Key: " + b"k" * 129 + b"\r\n",
        b"Idempotency-Key: a\tb\r\n",
        b"Idempotency-Key: \xff\r\n",
        b"Idempotency-Key: " + "é".encode() + b"\r\n",
        b"Idempotency-Key: k\r\nIdempotency-Key: k\r\n",
        b"Idempotency-Key: a\r\nidempotency-key: b\r\n",
        b"Idempotency-Key: a\r\nIdempotency-Key:\r\n",
    ],
)
async def test_bad_key_is_400_that_names_the_header_and_counts_nothing(
    client: RawClient, backend: MemoryBackend, headers: bytes
) -> None:
    answer = await client.ask("POST", GOOD, headers=headers)
    assert answer.status == 400
    assert answer.problem["parameter"] == "Idempotency-Key"
    assert answer.problem["detail"].startswith("Idempotency-Key must be ")
    assert backend.asked == 0
    assert (await client.ask("POST", GOOD)).status == 204


@pytest.mark.parametrize("value", [b"a\x00b", b"a\x7fb", b"a\x01b"])
async def test_key_with_a_control_character_is_400(client: RawClient, backend: MemoryBackend, value: bytes) -> None:
    """Some are refused with all of HTTP, before anybody knows which header it was."""
    assert (await client.ask("POST", GOOD, headers=b"Idempotency-Key: " + value + b"\r\n")).status == 400
    assert backend.asked == 0


async def test_question_takes_no_notice_of_a_key(client: RawClient) -> None:
    answer = await client.ask("GET", f"/analytics?{TIMESTAMP}", headers=b"Idempotency-Key:\r\n")
    assert answer.status == 200
