"""The hub: a loss that is none would prove nothing. Skipped where namespaces can't be had."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub import HOST, Hub, NoHub, Weather

PINGS = 100
SURELY_S = 5.0
PERHAPS_S = 0.1
# Sends to itself at another place and back: a server that echoes, and a client that counts, over UDP.
ECHO = (
    "import socket; s = socket.socket(2, 2); s.bind(('', 9)); print('up', flush=True)\n"
    "while True: s.sendto(*s.recvfrom(99))"
)
COUNT = (
    "import socket, sys; s = socket.socket(2, 2); n = 0\n"
    "s.settimeout(float(sys.argv[3])); s.connect((sys.argv[1], 9))\n"
    "for _ in range(int(sys.argv[2])):\n"
    "    s.send(b'x')\n"
    "    try: n += len(s.recv(9))\n"
    "    except TimeoutError: pass\n"
    "print(n)"
)


@pytest.fixture
def hub() -> Iterator[Hub]:
    try:
        with Hub(["s1", "s2"], seed=1) as made:
            yield made
    except NoHub as exc:
        pytest.skip(str(exc))


def came_back(hub: Hub, sender: str, receiver: str, within_s: float) -> int:
    """Return how many of ``PINGS`` messages came back, each before the next one left."""
    python = [sys.executable, "-c"]
    prefix = [] if receiver == HOST else hub.inside(receiver)
    with subprocess.Popen([*prefix, *python, ECHO], stdout=subprocess.PIPE) as echo:
        try:
            assert echo.stdout is not None
            assert echo.stdout.readline() == b"up\n"
            command = [*hub.inside(sender), *python, COUNT, hub.address(receiver), str(PINGS), str(within_s)]
            return int(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
        finally:
            echo.kill()


@pytest.mark.parametrize("receiver", ["s2", HOST])
def test_everything_comes_back_in_good_weather(hub: Hub, receiver: str) -> None:
    assert came_back(hub, "s1", receiver, SURELY_S) == PINGS


def test_a_share_of_the_packets_is_lost_each_way(hub: Hub) -> None:
    hub.weather = Weather(loss=0.3)
    assert 0.3 * PINGS < came_back(hub, "s1", "s2", PERHAPS_S) < 0.7 * PINGS


def test_place_is_gone_when_the_block_ends() -> None:
    try:
        with Hub(["s1"], seed=1) as hub:
            namespace = hub.inside("s1")[1].removeprefix("--net=")
            assert Path(namespace).exists()
            devices = len(list(Path("/sys/class/net").iterdir()))
    except NoHub as exc:
        pytest.skip(str(exc))
    assert not Path(namespace).exists()
    assert len(list(Path("/sys/class/net").iterdir())) == devices - 1
