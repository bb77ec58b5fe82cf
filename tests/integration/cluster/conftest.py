"""One etcd for all tests in here; each test has a cluster of its own in it."""

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from tally.cluster.etcd import Etcd, EtcdSettings
from tally.cluster.keys import Keys
from tests.support.etcd import EtcdServer


@pytest.fixture(scope="session")
def server() -> Iterator[EtcdServer]:
    """An etcd that no test stops."""
    with EtcdServer() as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[EtcdServer]:
    """An etcd that the test may stop and freeze."""
    with EtcdServer() as running:
        yield running


@pytest.fixture
async def etcd(server: EtcdServer) -> AsyncIterator[Etcd]:
    """A connection to the common etcd."""
    connection = Etcd(EtcdSettings(endpoints=(server.endpoint,)))
    yield connection
    await connection.close()


@pytest.fixture
def keys() -> Keys:
    """The keys of a cluster that no other test uses."""
    return Keys(f"t{secrets.token_hex(6)}")
