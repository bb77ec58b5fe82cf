"""Networks of their own for some processes, joined by a hub that drops, delays and limits real IP packets. Needs root.

Each place is a network namespace with one tun device; what is sent into it is read here, and written to the device of
the place that it is for. The namespaces have no names, and live in open files: they are gone with this process, however
it ends.
"""

import ctypes
import fcntl
import heapq
import os
import random
import selectors
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

HOST: Final = ""
"""The place where the test itself is."""

_TUNSETIFF: Final = 0x400454CA
_IFF_TUN_WITHOUT_HEADER: Final = 0x1001
_CLONE_NEWNET: Final = 0x40000000
_PACKET: Final = 65_536
_DESTINATION: Final = slice(16, 20)  # Of an IPv4 header.
_QUEUE_S: Final = 0.5  # What would wait longer for a slow line is dropped.
_WAITING_MAX: Final = 100_000
_JOIN_S: Final = 5.0


class NoHub(Exception):
    """Namespaces or tun devices can't be had here."""


@dataclass(frozen=True, slots=True)
class Weather:
    """What the hub does with packets.

    Attributes:
        loss: How many of them it drops, 0 to 1.
        delay_s: How much later the others come.
        bytes_per_s: How much each place can take; 0: as much as comes.
    """

    loss: float = 0.0
    delay_s: float = 0.0
    bytes_per_s: int = 0


class _Place(NamedTuple):
    tun: int
    namespace: int
    address: str


class Hub:
    """``with Hub(["s1", "s2"], seed=1) as hub:`` gives two places, and one for the test."""

    def __init__(self, names: Sequence[str], *, seed: int) -> None:
        """Prepare.

        Args:
            names: Of the places.
            seed: Of which packets are dropped.
        """
        self.weather = Weather()
        self.passed = self.dropped = 0
        self._names = [HOST, *names]
        self._chance = random.Random(seed)
        # Of the network that is set aside for measurements (RFC 2544).
        self._network = f"198.18.{os.getpid() % 256}"
        self._places: dict[str, _Place] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._forward, name="hub", daemon=True)

    def __enter__(self) -> Self:
        """Make the places.

        Raises:
            NoHub: That can't be done here.
        """
        for tool in ("ip", "nsenter"):
            if shutil.which(tool) is None:
                raise NoHub(f"there is no {tool}")
        try:
            for number, name in enumerate(self._names, start=1):
                self._places[name] = _made(name, f"{self._network}.{number}", number)
                self._configure(name, number)
        except (OSError, subprocess.CalledProcessError) as exc:
            self._close()
            raise NoHub(f"no namespace with a tun device: {exc}") from exc
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(_JOIN_S)
        self._close()

    def address(self, name: str) -> str:
        """Return the IP address of a place."""
        return self._places[name].address

    def inside(self, name: str) -> list[str]:
        """Return what to put before a command, for it to run at a place, under the same process id."""
        return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self._places[name].namespace}", "--"]

    def _configure(self, name: str, number: int) -> None:
        place, device = self._places[name], _device(number)
        before = [] if name == HOST else self.inside(name)
        for command in (
            f"ip address add {place.address}/24 dev {device}",
            f"ip link set {device} mtu 1500 up",
            "ip link set lo up",
        ):
            subprocess.run([*before, *command.split()], check=True, capture_output=True, timeout=_JOIN_S)

    def _close(self) -> None:
        for place in self._places.values():
            os.close(place.tun)
            os.close(place.namespace)
        self._places.clear()

    def _forward(self) -> None:
        """Bring packets where they are for, until the end."""
        by_address = {socket.inet_aton(place.address): place.tun for place in self._places.values()}
        free_at = dict.fromkeys(by_address.values(), 0.0)
        waiting: list[tuple[float, int, int, bytes]] = []  # When it is due, its number, for whom.
        numbers = iter(range(2**62))
        selector = selectors.DefaultSelector()
        for device in by_address.values():
            selector.register(device, selectors.EVENT_READ)
        while not self._stopped.is_set():
            wait_s = min(0.1, waiting[0][0] - time.monotonic()) if waiting else 0.1
            ready = selector.select(max(0.0, wait_s))
            now = time.monotonic()
            for key, _ in ready:
                packet = os.read(key.fd, _PACKET)
                receiver = by_address.get(packet[_DESTINATION])
                due = None if receiver is None else self._due(packet, free_at, receiver, now)
                if receiver is None or due is None or len(waiting) >= _WAITING_MAX:
                    self.dropped += 1
                else:
                    heapq.heappush(waiting, (due, next(numbers), receiver, packet))
            while waiting and waiting[0][0] <= now:
                _, _, receiver, packet = heapq.heappop(waiting)
                os.write(receiver, packet)
                self.passed += 1
        selector.close()

    def _due(self, packet: bytes, free_at: dict[int, float], tun: int, now: float) -> float | None:
        """Return when a packet is to arrive; None if never."""
        weather = self.weather
        if self._chance.random() < weather.loss:
            return None
        arrives = now
        if weather.bytes_per_s:
            begins = max(now, free_at[tun])
            if begins - now > _QUEUE_S:
                return None
            arrives = free_at[tun] = begins + len(packet) / weather.bytes_per_s
        return arrives + weather.delay_s


def _device(number: int) -> str:
    return f"hub{os.getpid() % 100_000}x{number}"


def _unshare() -> None:
    """Give this thread a network of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare: " + os.strerror(ctypes.get_errno()))


def _made(name: str, address: str, number: int) -> _Place:
    """Make a namespace, or take that of the test, and a tun device in it."""
    made: list[_Place | OSError] = []

    def work() -> None:
        try:
            if name != HOST:
                _unshare()
            tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            try:
                fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH14x", _device(number).encode(), _IFF_TUN_WITHOUT_HEADER))
                made.append(_Place(tun, os.open(Path("/proc/thread-self/ns/net"), os.O_RDONLY), address))
            except OSError:
                os.close(tun)
                raise
        except OSError as exc:
            made.append(exc)

    # In a thread of its own: a namespace belongs to a thread, and this one ends.
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    (result,) = made
    if isinstance(result, OSError):
        raise result
    return result
