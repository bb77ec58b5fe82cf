"""A real etcd for a test: on free ports, in a directory of its own, gone without a trace afterwards."""

import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tally.cluster.local_etcd import etcd_command, find_etcd

_ATTEMPTS: Final = 3
_START_S: Final = 20.0
_STOP_S: Final = 10.0


class EtcdServer:
    """One etcd process. ``with EtcdServer() as etcd:`` or ``async with``; its data live until the block ends."""

    def __init__(self, *, tls: bool = False) -> None:
        """Prepare one; with ``tls`` it makes itself a certificate, and takes no other clients."""
        self._tls = tls
        self._directory = Path(tempfile.mkdtemp(prefix="tally-etcd-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._client_port, self._peer_port = free_ports(2)

    def __enter__(self) -> Self:
        for _ in range(_ATTEMPTS - 1):
            try:
                self.start()
            except RuntimeError:  # Somebody may have taken the port between the choice and the start.
                self._client_port, self._peer_port = free_ports(2)
                shutil.rmtree(self._directory / "data", ignore_errors=True)
            else:
                return self
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._directory)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    @property
    def endpoint(self) -> str:
        """``host:port`` for clients; stays the same when it is started again."""
        return f"127.0.0.1:{self._client_port}"

    @property
    def ca_file(self) -> Path:
        """What to trust, with ``tls``: etcd's own certificate."""
        return self._directory / "data" / "fixtures" / "client" / "cert.pem"

    def start(self) -> None:
        """Start it, on the data that it left if it ran before, and wait until it answers."""
        assert self._process is None
        command = etcd_command(find_etcd(), self._directory / "data", self._client_port, self._peer_port)
        command.append("--unsafe-no-fsync")  # Quicker; a killed process loses nothing by it, only a dead machine.
        if self._tls:
            plain, secure = f"http://{self.endpoint}", f"https://{self.endpoint}"
            command = [part.replace(plain, secure) for part in command] + ["--auto-tls"]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + _START_S
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"etcd did not start: {(self._directory / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill it and wait for its end; it may be started again."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_STOP_S)

    def control(self, *arguments: str) -> None:
        """Do what an operator does, with the etcdctl beside etcd."""
        command = [str(find_etcd().with_name("etcdctl")), f"--endpoints={self.endpoint}", *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=_STOP_S)

    def freeze(self) -> None:
        """Stop its clock: connections stay open, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _healthy(self) -> bool:
        if self._tls:
            unverified = ssl._create_unverified_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", self._client_port, timeout=1.0, context=unverified
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self._client_port, timeout=1.0)
        try:
            connection.request("GET", "/health")
            return b'"true"' in connection.getresponse().read()
        except OSError:
            return False
        finally:
            connection.close()


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on at present."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
