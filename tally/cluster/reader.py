"""Keeps this process's picture of the cluster up to date: polls etcd, and reads at once when somebody asks.

Invariants:
  * a map is never exchanged for an older one, nor for none: its rows tell, for a restored etcd numbers revisions anew;
  * every state has a secret, for a process that has none could speak to nobody;
  * a read that begins after a call of ``refresh`` ends before that returns;
  * at most one read is under way.

No watch: a poll that finds nothing new costs a few bytes, and a lost one can't hurt.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from tally.cluster.etcd import Etcd
from tally.cluster.keys import Keys
from tally.cluster.state import ClusterState
from tally.cluster.trouble import Trouble
from tally.errors import BadClusterData, ClusterMissing, ClusterReplaced, EtcdUnavailable, SecretMissing, TallyError
from tally.files import make_directories, write_whole

log = structlog.get_logger()

_START_RETRY_S: Final = 0.2
_READ_ALL_S: Final = 60.0  # So often at least: revisions tell nothing of an etcd that was exchanged for another one.


def take_in(held: ClusterState | None, found: ClusterState, cluster: str) -> ClusterState:
    """Return what to hold after ``found`` was read.

    The map that is held stays if there is none now, or an older one; so does the secret if there is none that can be
    read, and a member that can't be read.

    Raises:
        ClusterReplaced: What is fixed for the life of a cluster has changed.
        SecretMissing: Nothing is held yet, and there is no secret that can be read.
    """
    if held is None:
        if found.secret is None:
            raise SecretMissing(cluster)
        return found
    if found.config.uuid != held.config.uuid:
        raise ClusterReplaced(cluster, f"its uuid is {found.config.uuid}, not {held.config.uuid}")
    differences = found.config.differences(held.config)
    if differences:
        raise ClusterReplaced(cluster, ", ".join(differences))
    found = _with_unreadable(held, found, Keys(cluster))
    if found.secret is None:
        found = replace(found, secret=held.secret)
    if held.map is None or (found.map is not None and not found.map.goes_back_from(held.map)):
        return found
    return replace(found, map=held.map, rolled_back=True)


def _with_unreadable(held: ClusterState, found: ClusterState, keys: Keys) -> ClusterState:
    """Return ``found`` with what is known of the members that can't be read now."""
    known = {shard: member for shard, member in held.members.items() if keys.member(shard) in found.unreadable}
    return replace(found, members=dict(sorted({**found.members, **known}.items()))) if known else found


class ClusterReader:
    """What this process knows of the cluster. Belongs to one event loop."""

    def __init__(
        self,
        etcd: Etcd,
        keys: Keys,
        *,
        file: Path | None = None,
        poll_s: float = 1.0,
        resolve: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a reader; ``start`` reads, ``run`` keeps up.

        Args:
            etcd: The connection; the caller closes it.
            keys: Of the cluster to read.
            file: Where to keep the last state, to start from when etcd is away or has lost it; None: nowhere.
            poll_s: How often to look.
            resolve: Shard -> where this process reaches it, whatever etcd says.
        """
        self._etcd = etcd
        self._keys = keys
        self._file = file
        self._poll_s = poll_s
        self._resolve = dict(resolve or {})
        self._state: ClusterState | None = None
        self._revision = 0  # Of etcd when all was read last; 0: not yet.
        self._count = 0  # Keys there were then.
        self._read_all_at = 0.0  # When that was.
        self._listeners: list[Callable[[ClusterState], None]] = []
        self._wake = asyncio.Event()
        self._reading = asyncio.Lock()
        self._begun = 0  # Reads, numbered 1, 2, 3 ...
        self._ended = 0
        self._failure: TallyError | None = None  # Of the read that ended last.
        self._kept = ""  # What stands in the file.
        self._trouble = Trouble("reader")

    @property
    def state(self) -> ClusterState:
        """The newest state; only after ``start``."""
        assert self._state is not None, "start() comes first"
        return self._state

    def on_change(self, callback: Callable[[ClusterState], None]) -> None:
        """Call ``callback`` with each new state from now on, at once and in the reader's task: it must not wait.

        Its exceptions are logged, and end nothing.
        """
        self._listeners.append(callback)

    def refresh_soon(self) -> None:
        """Read without waiting for the next poll. Many calls make one read; one more if a read is under way."""
        self._wake.set()

    def distrust(self) -> None:
        """Let the next read be one of all keys: what is known here does not seem to be what etcd has."""
        self._revision = 0

    async def start(self, wait_s: float) -> None:
        """Read for the first time; try for ``wait_s`` while etcd is away or has no such cluster, then take the file.

        An etcd that has lost the cluster is no reason to stay away: the shards serve on until ``tally recover``. If
        another cluster is made in its place, ``run`` says so.

        Raises:
            EtcdUnavailable: etcd stayed away, and there is no file to start from.
            ClusterMissing: Nobody made the cluster, and there is no file of it.
            SecretMissing: The cluster has no secret, and there is no file of it.
            TallyError: Other errors, at once: waiting would not cure them.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + wait_s
        while True:
            try:
                await self.refresh()
            except (EtcdUnavailable, ClusterMissing) as exc:
                self._trouble.met(exc)
                if clock() < end:
                    await asyncio.sleep(min(_START_RETRY_S, max(0.0, end - clock())))
                elif self._start_from_file():
                    return
                else:
                    raise
            except SecretMissing:
                if not self._start_from_file():
                    raise
                return
            else:
                self._trouble.over()
                return

    async def run(self) -> None:
        """Poll until cancelled. Trouble is logged, and the state stays as it is.

        Raises:
            ClusterReplaced: To go on with the old state would mix the events of two clusters.
        """
        while True:
            self._wake.clear()
            try:
                await self.refresh()
            except ClusterReplaced:
                raise
            except TallyError as exc:
                self._trouble.met(exc)
            else:
                self._trouble.over()
            await self._keep()
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def refresh(self) -> ClusterState:
        """Return the state after a read that began after this call. Callers who wait at the same time share one.

        Raises:
            TallyError: The read failed; the state stays as it is.
        """
        mine = self._begun + 1
        async with self._reading:
            if self._ended < mine:  # Else somebody who waited with us has read it.
                self._begun += 1
                number = self._begun
                self._failure = None
                try:
                    await self._read()
                except TallyError as exc:
                    self._failure = exc
                self._ended = number
            if self._failure is not None:
                raise self._failure
        return self.state

    async def _read(self) -> None:
        """Look whether anything changed, and read all if so."""
        prefix = self._keys.prefix
        now = asyncio.get_running_loop().time()
        if self._revision and now < self._read_all_at + _READ_ALL_S:
            news = await self._etcd.read_prefix(prefix, min_mod_revision=self._revision + 1)
            # A key that is gone is not among the news, but missing in the count. An older revision: a restored etcd.
            if not news.found and news.count == self._count and news.revision >= self._revision:
                return
        self._revision = 0  # Until all was read: after a failure, what changed before it is no news to etcd.
        snapshot = await self._etcd.read_prefix(prefix)
        found = ClusterState.from_etcd(self._keys, snapshot.found)
        state = take_in(self._state, found, self._keys.cluster)
        self._revision, self._count, self._read_all_at = snapshot.revision, snapshot.count, now
        self._adopt(state)

    def _adopt(self, state: ClusterState) -> None:
        state = replace(state, resolve=self._resolve)
        if state == self._state:
            return
        before, self._state = self._state, state
        if state.rolled_back and (
            before is None or (before.rolled_back, before.map_revision) != (True, state.map_revision)
        ):
            log.error("older_map_ignored", found_revision=state.map_revision, advice="tally recover")
        for key, reason in state.unreadable.items():
            if before is None or key not in before.unreadable:
                log.error("key_not_readable", key=key, reason=reason)
        for listener in self._listeners:
            try:
                listener(state)
            except Exception:  # The others are to know it, and there will be newer states.
                log.exception("state_listener_failed")

    def _start_from_file(self) -> bool:
        """Adopt the state that was kept last time, if there is one."""
        if self._file is None or not self._file.exists():
            return False
        try:
            text = self._file.read_text()
            state = ClusterState.from_file(text, str(self._file), self._keys.cluster)
        except (OSError, ValueError, BadClusterData) as exc:
            log.warning("state_file_unusable", file=str(self._file), reason=str(exc), advice="wait for etcd")
            return False
        log.warning("started_from_file", file=str(self._file), map_revision=state.map_revision)
        self._adopt(state)
        return True

    async def _keep(self) -> None:
        """Write the state to the file if it is another one; a disk that fails is no reason to stop."""
        if self._file is None or self._state is None or (text := self._state.to_file(self._keys.cluster)) == self._kept:
            return
        try:
            await asyncio.to_thread(_replace_file, self._file, text)
        except OSError as exc:
            log.warning("state_file_not_written", file=str(self._file), reason=str(exc))
        self._kept = text  # Also after an error: the next change tries again, not the next poll.


def _replace_file(file: Path, text: str) -> None:
    make_directories(file.parent)
    write_whole(file, text)
