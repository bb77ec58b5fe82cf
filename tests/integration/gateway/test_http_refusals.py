"""Well-formed requests that are refused: nothing is counted, and the connection goes on."""

import pytest

from tests.support.http_door import GOOD, TIMESTAMP
from tests.support.memory_backend import MemoryBackend
from tests.support.raw_http import Answer, RawClient


async def refused(client: RawClient, backend: MemoryBackend, method: str, target: str, status: int) -> Answer:
    """Send a bad request, then a good one on the same connection; return the first answer."""
    answer = await client.ask(method, target)
    assert answer.status == status
    assert backend.asked == 0
    assert (await client.ask("POST", GOOD)).status == 204
    return answer


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "timestamp",
    [
        "",
        "?timestamp",
        "?timestamp=",
        "?timestamp=1&timestamp=1",
        "?timestamp=1&time%73tamp=1",
        "?timestamp=1_000",
        "?timestamp=-1",
        "?timestamp=+1",
        "?timestamp=1.0",
        "?timestamp=%EF%BC%91%EF%BC%92",
        "?timestamp=0000000000000001",
        "?timestamp=253402300800000",
        "?timestamp=%",
    ],
)
async def test_bad_timestamp_is_400(client: RawClient, backend: MemoryBackend, method: str, timestamp: str) -> None:
    rest = "&user=ann&click" if method == "POST" and timestamp else ""
    answer = await refused(client, backend, method, f"/analytics{timestamp}{rest}", 400)
    assert answer.problem["parameter"] == "timestamp"


@pytest.mark.parametrize(
    ("rest", "parameter"),
    [
        ("click", "user"),
        ("click&user", "user"),
        ("click&user=", "user"),
        ("click&user=ann&user=ann", "user"),
        ("click&user=ann&%75ser=ann", "user"),
        ("click&user=" + "u" * 257, "user"),
        ("click&user=%ff", "user"),
        ("click&user=%C3", "user"),
        ("click&user=a%00", "user"),
        ("click&user=a%1F", "user"),
        ("click&user=a%7f", "user"),
        ("click&user=a%C2%80", "user"),
        ("click&user=a%C2%9F", "user"),
        ("click&user=a%", "user"),
        ("click&user=a%2", "user"),
        ("click&user=a%zz", "user"),
        ("click&user=a#b", "user"),
        ("user=ann", "click"),
        ("user=ann&click&impression", "impression"),
        ("user=ann&click&click", "click"),
        ("user=ann&click=1", "click"),
        ("user=ann&impression=yes", "impression"),
        ("user=ann&click&page=1", "page"),
    ],
)
async def test_bad_event_is_400_and_names_the_parameter(
    client: RawClient, backend: MemoryBackend, rest: str, parameter: str
) -> None:
    answer = await refused(client, backend, "POST", f"/analytics?{TIMESTAMP}&{rest}", 400)
    assert answer.problem["parameter"] == parameter


@pytest.mark.parametrize("query", [f"{TIMESTAMP}&&user=ann&click", f"{TIMESTAMP}&user=ann&click&"])
async def test_empty_parameter_is_400(client: RawClient, backend: MemoryBackend, query: str) -> None:
    assert "no name" in (await refused(client, backend, "POST", f"/analytics?{query}", 400)).problem["detail"]


@pytest.mark.parametrize(
    "target", [f"/analytics?{TIMESTAMP}#", f"/analytics#x?{TIMESTAMP}", f"/analytics#?{TIMESTAMP}"]
)
async def test_raw_hash_is_400_that_says_what_to_send(client: RawClient, backend: MemoryBackend, target: str) -> None:
    assert "%23" in (await refused(client, backend, "GET", target, 400)).problem["detail"]


@pytest.mark.parametrize("path", ["/", "/analytics/", "/Analytics", "/%61nalytics", "//analytics", "/x", "//[", "/*"])
async def test_other_path_is_404(client: RawClient, backend: MemoryBackend, path: str) -> None:
    assert (await refused(client, backend, "POST", f"{path}?{TIMESTAMP}&user=ann&click", 404)).problem


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        *((method, "/analytics", "GET, HEAD, POST") for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")),
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", "/readyz", "GET, HEAD"),
    ],
)
async def test_other_method_is_405(
    client: RawClient, backend: MemoryBackend, method: str, path: str, allow: str
) -> None:
    answer = await refused(client, backend, method, f"{path}?{TIMESTAMP}&user=ann&click", 405)
    assert answer.headers["allow"] == allow


async def test_other_method_on_other_path_is_404(client: RawClient, backend: MemoryBackend) -> None:
    await refused(client, backend, "PUT", "/x", 404)
