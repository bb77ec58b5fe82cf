"""Keeps a shard registered: its member key, and under a lease the key that says that its process runs.

Invariants:
  * a member value that can't be read is written again, one that can never: what the operator wants of it stays;
  * the lease is renewed only after the disk was proved to take writes: a shard that can't write goes from the picture;
  * a process that finds the bits of a later one in its alive key ends: its directory was copied. An earlier one's are
    no sign of that: a restored etcd has the keys of its snapshot.

A lost lease moves nothing by itself; the process registers again.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import Enum, auto
from typing import Final

import structlog

from tally.cluster.etcd import Etcd, ModRevision, Put
from tally.cluster.keys import Keys
from tally.cluster.members import Member
from tally.cluster.state import KeyValue
from tally.cluster.trouble import Trouble
from tally.errors import BadClusterData, DirectoryCopied, EtcdUnavailable, LeaseGone, ShardTaken, TallyError

log = structlog.get_logger()

_RETRY_S: Final = 0.5


class Step(Enum):
    """What to do after a look at the lease and the alive key."""

    STAY = auto()
    REGISTER_AGAIN = auto()


def next_step(shard: str, bits: str, registered: int, found: KeyValue | None, ttl_s: int) -> Step:
    """Decide what a registered process does next.

    Args:
        shard: Its id, for the error.
        bits: What it wrote into its alive key.
        registered: The revision of etcd in which it did so last.
        found: The alive key as it is now.
        ttl_s: What its lease has left, 0 if it has run out.

    Raises:
        DirectoryCopied: Another process wrote the key after this one.
    """
    ours = found is not None and found.value == bits.encode()
    if found is not None and not ours and found.mod_revision > registered:
        raise DirectoryCopied(shard)
    # A lease that has run out takes the key with it, maybe a moment from now.
    return Step.STAY if ours and ttl_s > 0 else Step.REGISTER_AGAIN


def check_free(shard: str, directory: str, alive: KeyValue | None, member: KeyValue | None) -> None:
    """Make sure that a process that starts does not take the place of one that runs from another directory.

    Raises:
        ShardTaken: It would.
        BadClusterData: Whose directory that one has can't be read; if it runs, it mends that itself.
    """
    if alive is None or member is None:
        return
    holder = Member.from_json(member.value, member.key)
    if holder.directory != directory:
        raise ShardTaken(shard, holder.address)


class Registration:
    """One process's place in the cluster. Belongs to one event loop."""

    def __init__(
        self,
        etcd: Etcd,
        keys: Keys,
        *,
        shard: str,
        member: Member,
        prove_disk: Callable[[], Awaitable[None]],
        ttl_s: int = 10,
    ) -> None:
        """Prepare; ``register`` takes the place, ``run`` keeps it.

        Args:
            etcd: The connection; the caller closes it.
            keys: Of the cluster to belong to.
            shard: The shard's id.
            member: Where it is; what is wanted of it stays as it stands in etcd, if it does.
            prove_disk: Returns once a WAL flush that began within the last half ``ttl_s`` has ended.
            ttl_s: How long the alive key outlives the last renewal; etcd takes no less than 2.
        """
        assert ttl_s >= 2
        self._etcd = etcd
        self._keys = keys
        self._shard = shard
        self._member = member
        self._wanted = member.wanted  # What the operator wanted when that could be read last.
        self._prove_disk = prove_disk
        self._ttl_s = ttl_s
        self._bits = secrets.token_hex(8)
        self._lease = 0
        self._registered = 0  # Revision of etcd.
        self._trouble = Trouble("registration")

    @property
    def bits(self) -> str:
        """16 hex digits that this process stands for in its alive key."""
        return self._bits

    @property
    def lease(self) -> int:
        """The present lease; 0 before ``register``. What else ends with this process stands under it."""
        return self._lease

    async def register(self) -> None:
        """Take the place, from an earlier process of this shard too; waits while etcd is away.

        It waits too while another process of it is alive and the member value can't be read: it is mended, or goes.

        Raises:
            EtcdRefused: etcd does not let us.
            ShardTaken: It runs already, from another directory.
        """
        while True:
            try:
                await self._register(first=True)
            except (EtcdUnavailable, LeaseGone, BadClusterData) as exc:
                self._trouble.met(exc)
                await asyncio.sleep(_RETRY_S)
            else:
                self._trouble.over()
                return

    async def run(self) -> None:
        """Renew until cancelled; only after ``register``.

        Raises:
            DirectoryCopied: Another process registered as this shard.
        """
        pause_s = self._ttl_s / 3
        while True:
            await asyncio.sleep(pause_s)
            await self._prove_disk()
            try:
                await self._renew()
            except DirectoryCopied:
                raise
            except TallyError as exc:
                self._trouble.met(exc)
                pause_s = min(_RETRY_S, self._ttl_s / 3)
            else:
                self._trouble.over()
                pause_s = self._ttl_s / 3

    async def leave(self) -> None:
        """Give the lease up, and with it all that stands under it; after ``run`` was cancelled. Never raises."""
        lease, self._lease = self._lease, 0
        if lease == 0:
            return
        try:
            # Not the key by its name: another process may have registered under it by now.
            await self._etcd.revoke(lease)
        except TallyError as exc:
            log.warning("lease_not_revoked", shard=self._shard, reason=str(exc))

    async def _renew(self) -> None:
        ttl_s = await self._etcd.keep_alive(self._lease)
        found = await self._etcd.read(self._keys.alive_of(self._shard))
        step = next_step(self._shard, self._bits, self._registered, found, ttl_s)
        if step is Step.REGISTER_AGAIN or not self._readable(await self._etcd.read(self._keys.member(self._shard))):
            log.warning("registration_lost", shard=self._shard, lease=self._lease)
            await self._register(first=False)

    async def _register(self, *, first: bool) -> None:
        """Write member and alive key in one transaction, on the state of etcd that was read before it."""
        alive, member, slot_map = self._keys.alive_of(self._shard), self._keys.member(self._shard), self._keys.map
        lease = await self._etcd.grant_lease(self._ttl_s)
        while True:
            seen = {key: await self._etcd.read(key) for key in (alive, member, slot_map)}
            if first:  # The key of the process before us may stand there yet; another shard's must not.
                check_free(self._shard, self._member.directory, seen[alive], seen[member])
            else:
                next_step(self._shard, self._bits, self._registered, seen[alive], self._ttl_s)
            committed = await self._etcd.commit(
                # The map too: an old etcd may have answered from the past, and this proves that it did not.
                [ModRevision(key, one.mod_revision if one else 0) for key, one in seen.items()],
                [Put(member, self._member_to_write(seen[member]).to_json()), Put(alive, self._bits, lease)],
            )
            if committed.ok:
                break
        self._lease, self._registered = lease, committed.revision
        log.info("shard_registered", shard=self._shard, address=self._member.address, ttl_s=self._ttl_s)

    def _member_to_write(self, found: KeyValue | None) -> Member:
        """Return our member value, with what the operator wants of it."""
        if found is None:
            return self._member
        if not self._readable(found):
            was = found.value.decode("utf-8", "replace")
            log.warning("member_mended", shard=self._shard, was=was, wanted=self._wanted.value)
        return replace(self._member, wanted=self._wanted)

    def _readable(self, found: KeyValue | None) -> bool:
        """Whether our member value is there and says what the operator wants, which is noted."""
        if found is None:
            return False
        try:
            self._wanted = Member.from_json(found.value, found.key).wanted
        except BadClusterData:
            return False
        return True
