"""What these tests share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final

import pytest
import structlog
import uvloop

from gateway.app import App
from tests.support.http_door import serving
from tests.support.memory_backend import MemoryBackend
from tests.support.raw_http import RawClient

_ON_BOTH_LOOPS: Final = {"test_connections.py", "test_http_clients.py"}


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop of production; where transports differ in when they close, on asyncio's own too."""
    production: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop}
    return production | {"asyncio": asyncio.new_event_loop} if item.path.name in _ON_BOTH_LOOPS else production


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    """What is logged; whatever a client sends, no name of a user, and no error unless the test takes it out."""
    with structlog.testing.capture_logs() as lines:
        yield lines
    assert "ann" not in repr(lines)
    assert "error" not in {line["log_level"] for line in lines}


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def app(backend: MemoryBackend) -> App:
    return App(backend)


@pytest.fixture
async def port(app: App) -> AsyncIterator[int]:
    async with serving(app) as number:
        yield number


@pytest.fixture
async def client(port: int) -> AsyncIterator[RawClient]:
    async with await RawClient.connect(port) as connected:
        yield connected
