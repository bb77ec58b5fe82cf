"""A real etcd for a test: on free ports, in a directory of its own, gone without a trace afterwards."""

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tally.cluster.local_etcd import etcd_command, find_etcd

_ATTEMPTS: Final = 3
_START_S: Final = 20.0
_STOP_S: Final = 10.0
_CONTROL_S: Final = 30.0
_OTHERS: Final = "/others/"
_FILLER_BYTES: Final = 64 * 1024  # What fits into a command line.
_FILLERS_MAX: Final = 256


class EtcdServer:
    """One etcd process. ``with EtcdServer() as etcd:`` or ``async with``; its data live until the block ends.

    May be started and stopped in another thread. One that is still at it when the block ends leaves no process behind.
    """

    def __init__(self, *, tls: bool = False, quota_bytes: int | None = None) -> None:
        """Prepare one.

        Args:
            tls: It makes itself a certificate, and takes no other clients.
            quota_bytes: How large its database may become; None: as large as etcd's own default, 2 GiB.
        """
        self._tls = tls
        self._options = [f"--quota-backend-bytes={quota_bytes}"] if quota_bytes else []
        self._directory = Path(tempfile.mkdtemp(prefix="tally-etcd-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._changes = threading.Lock()  # Of ``_process``, and of whether the block has ended.
        self._over = False
        self._client_port, self._peer_port = free_ports(2)

    def __enter__(self) -> Self:
        try:
            self._start_somewhere()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changes:
            self._over = True
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

    @property
    def runs(self) -> bool:
        """Whether it was started and not stopped."""
        return self._process is not None

    def start(self) -> None:
        """Start it, on the data that it left if it ran before, and wait until it answers."""
        self.launch()
        self.wait_healthy()

    def launch(self) -> None:
        """Start it, and do not wait for it."""
        command = etcd_command(find_etcd(), self._directory / "data", self._client_port, self._peer_port)
        command.append("--unsafe-no-fsync")  # Quicker; a killed process loses nothing by it, only a dead machine.
        command += self._options
        if self._tls:
            plain, secure = f"http://{self.endpoint}", f"https://{self.endpoint}"
            command = [part.replace(plain, secure) for part in command] + ["--auto-tls"]
        with self._changes:
            assert self._process is None
            if self._over:
                raise RuntimeError("etcd is not to be started any more")
            with (self._directory / "log").open("ab") as log:
                self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def wait_healthy(self) -> None:
        """Wait until it answers, as a member of what may be several."""
        process = self._process
        end = time.monotonic() + _START_S
        while not self._healthy():
            if process is None or process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"etcd did not start: {self._said()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill it and wait for its end; it may be started again."""
        with self._changes:
            process, self._process = self._process, None
            if process is not None:
                process.kill()
                process.wait(_STOP_S)

    def wipe(self) -> None:
        """Lose all data: it comes back empty."""
        self.stop()
        shutil.rmtree(self._directory / "data")
        self.start()

    def snapshot(self) -> Path:
        """Save what it has, as an operator's backup does."""
        file = self._directory / "snapshot"
        self.control("snapshot", "save", str(file))
        return file

    def restore(self, snapshot: Path) -> None:
        """Come back with what it had when ``snapshot`` was saved."""
        self.stop()
        shutil.rmtree(self._directory / "data")
        peer = f"http://127.0.0.1:{self._peer_port}"
        command = [
            *(str(find_etcd().with_name("etcdutl")), "snapshot", "restore", str(snapshot)),
            *("--data-dir", str(self._directory / "data"), "--name", "tally"),
            *("--initial-cluster", f"tally={peer}", "--initial-advertise-peer-urls", peer),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=_STOP_S)
        self.start()

    def control(self, *arguments: str) -> str:
        """Do what an operator does, with the etcdctl beside etcd; return what it prints.

        Raises:
            EtcdctlFailed: It was refused, or not answered.
        """
        return _etcdctl(self.endpoint, *arguments)

    def freeze(self) -> None:
        """Stop its clock: connections stay open, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _start_somewhere(self) -> None:
        for _ in range(_ATTEMPTS - 1):
            try:
                self.start()
            except RuntimeError:  # Somebody may have taken the port between the choice and the start.
                self._client_port, self._peer_port = free_ports(2)
                shutil.rmtree(self._directory / "data", ignore_errors=True)
            else:
                return
        self.start()

    def _said(self) -> str:
        log = self._directory / "log"
        return log.read_text()[-2000:] if log.exists() else "its block has ended"

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
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class _Member(EtcdServer):
    """One of several that are one etcd."""

    def join(self, name: str, peers: str) -> None:
        """Note who it is, and who all are, as etcd's ``--initial-cluster`` says it."""
        self._options = [f"--name={name}", f"--initial-cluster={peers}"]  # The last word of an option counts.

    @property
    def peer_url(self) -> str:
        """Where the others reach it."""
        return f"http://127.0.0.1:{self._peer_port}"


class EtcdMembers:
    """Three etcd processes that are one etcd, with the surface of ``EtcdServer``: it stops and freezes all of them."""

    def __init__(self) -> None:
        """Prepare them."""
        self._members = _members()

    def __enter__(self) -> Self:
        for _ in range(_ATTEMPTS - 1):
            try:
                self.start()
            except RuntimeError:  # As with one.
                self.__exit__(None, None, None)
                self._members = _members()
            else:
                return self
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self._members:
            member.__exit__(kind, error, trace)

    @property
    def endpoint(self) -> str:
        """All of them, as ``--etcd`` takes them."""
        return ",".join(self.endpoints)

    @property
    def endpoints(self) -> list[str]:
        """``host:port`` of each; they stay the same."""
        return [member.endpoint for member in self._members]

    def start(self) -> None:
        """Start those that do not run, and wait until each has found a leader."""
        begun = [member for member in self._members if not member.runs]
        try:
            for member in begun:
                member.launch()
            for member in begun:
                member.wait_healthy()
        except BaseException:
            self.stop()
            raise

    def stop(self, *which: int) -> None:
        """Kill these, or all."""
        for number in which or range(len(self._members)):
            self._members[number].stop()

    def freeze(self, *which: int) -> None:
        """Stop the clock of these, or of all."""
        for number in which or range(len(self._members)):
            self._members[number].freeze()

    def thaw(self, *which: int) -> None:
        """Let these, or all, go on."""
        for number in which or range(len(self._members)):
            self._members[number].thaw()

    def leader(self) -> int:
        """Return which of them leads.

        Raises:
            EtcdctlFailed: One does not answer.
        """
        said = json.loads(self.control("endpoint", "status", "--write-out=json"))
        (leader,) = (one["Endpoint"] for one in said if one["Status"]["leader"] == one["Status"]["header"]["member_id"])
        return self.endpoints.index(leader)

    def control(self, *arguments: str) -> str:
        """Do what an operator does, with the etcdctl beside etcd, given all endpoints; return what it prints.

        Raises:
            EtcdctlFailed: It was refused, or not answered.
        """
        return _etcdctl(self.endpoint, *arguments)


class EtcdctlFailed(Exception):
    """What etcdctl said."""


AnyEtcd = EtcdServer | EtcdMembers


def fill(etcd: EtcdServer) -> None:
    """Write, as others who share it may do, until it takes nothing more."""
    for number in range(_FILLERS_MAX):
        try:
            etcd.control("put", f"{_OTHERS}{number}", "x" * _FILLER_BYTES)
        except EtcdctlFailed as exc:
            if "space exceeded" not in str(exc):
                raise
            return
    raise AssertionError("it was not filled; was it given a quota?")


def compact(etcd: EtcdServer) -> None:
    """Let it forget all revisions but the present one, and give the room back."""
    (found,) = json.loads(etcd.control("endpoint", "status", "--write-out=json"))
    etcd.control("compaction", str(found["Status"]["header"]["revision"]), "--physical")
    etcd.control("defrag")


def make_room(etcd: EtcdServer) -> None:
    """Do what etcd's handbook says of one that is full."""
    etcd.control("del", "--prefix", _OTHERS)
    compact(etcd)
    etcd.control("alarm", "disarm")


def _members() -> list[_Member]:
    """Return three that know of each other."""
    members = [_Member() for _ in range(3)]
    peers = ",".join(f"m{number}={member.peer_url}" for number, member in enumerate(members))
    for number, member in enumerate(members):
        member.join(f"m{number}", peers)
    return members


def _etcdctl(endpoints: str, *arguments: str) -> str:
    command = [str(find_etcd().with_name("etcdctl")), f"--endpoints={endpoints}", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_CONTROL_S)
    if done.returncode != 0:
        raise EtcdctlFailed(done.stderr)
    return done.stdout


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on at present."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def single(etcd: EtcdServer | EtcdMembers) -> EtcdServer:
    """Return the etcd of a cluster that has one with a single member."""
    assert isinstance(etcd, EtcdServer)
    return etcd
