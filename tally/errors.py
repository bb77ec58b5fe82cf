"""Every error that Tally raises on purpose. Each says what the caller may do next.

Errors of grpc, rocksdict and etcd become one of these in exactly one file each, with ``raise ... from exc``.
"""

import errno
import os
from collections.abc import Sequence
from typing import Final

_SLOTS_SHOWN: Final = 20
_NOT_IN_TIME: Final = "the event was sent, but not acknowledged in time"


class TallyError(Exception):
    """Base of every error that this system raises on purpose."""


class InvalidEvent(TallyError):
    """The input can't be counted or asked for; nothing was counted. Send it corrected."""

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(parameter, detail)  # The fields, not the text: copy and pickle keep working.
        self.parameter = parameter
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.parameter} {self.detail}"


class Overloaded(TallyError):
    """A bounded queue is full; nothing was counted. Send it again later."""

    def __init__(self, queue: str, limit: int) -> None:
        super().__init__(queue, limit)
        self.queue = queue
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.queue} is full ({self.limit})"


class Unavailable(TallyError):
    """The work was not begun, or a read had not all its parts; nothing was counted. Try again."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return self.what


class Refusing(Unavailable):
    """A shard says why it takes nothing for now; nothing was counted. Try again."""


class Unreachable(Unavailable):
    """Nothing came back from another process; what it was asked for may have been done."""


class InDoubt(TallyError):
    """The event was sent, and its caller waits no more: it is counted once, now or later, or not at all."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason  # Why it was not acknowledged; "" if that is not known.

    def __str__(self) -> str:
        return f"the event was sent, but not acknowledged: {self.reason}" if self.reason else _NOT_IN_TIME


class SetAside(TallyError):
    """Shards died each time they counted this event, so it is not sent for a while; of a call with others, none was.

    Whether it was counted when it was sent before is not known.
    """

    def __init__(self, place: int | None, for_s: float) -> None:
        super().__init__(place, for_s)
        self.place = place  # Among the events of its call, from 0; None if that is not known any more.
        self.for_s = for_s

    def __str__(self) -> str:
        return "the event is set aside: shards crashed while they counted it"


class NotController(TallyError):
    """The asked shard is not the controller, or is it no more; look who is, and ask there."""

    def __init__(self, shard: str) -> None:
        super().__init__(shard)
        self.shard = shard

    def __str__(self) -> str:
        return f"shard {self.shard} is not the controller"


class EtcdUnavailable(TallyError):
    """No etcd endpoint gave an answer in time. A write may or may not have happened: read before you repeat it."""

    def __init__(self, endpoints: str, reason: str) -> None:
        super().__init__(endpoints, reason)
        self.endpoints = endpoints
        self.reason = reason

    def __str__(self) -> str:
        return f"etcd does not answer at {self.endpoints} ({self.reason})"


class EtcdFull(EtcdUnavailable):
    """etcd has used up its quota: it is read, and leases are renewed, but nothing is written until there is room."""

    def __str__(self) -> str:
        return (
            f"etcd is full at {self.endpoints} ({self.reason}): compact and defragment it, then: etcdctl alarm disarm"
        )


class EtcdRefused(TallyError):
    """etcd answered with an error that a repetition does not cure, such as a wrong password."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"etcd refused: {self.reason}"


class LeaseGone(EtcdRefused):
    """The lease that a key was to stand under has run out; nothing was written. Get another lease."""


class ConfigError(TallyError):
    """A setting can't be used, or is missing: its value is None then. Correct it and start again."""

    def __init__(self, setting: str, value: object, allowed: str) -> None:
        super().__init__(setting, value, allowed)
        self.setting = setting
        self.value = value
        self.allowed = allowed

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.setting} must be given: {self.allowed}"
        return f"{self.setting} is {self.value!r}; allowed: {self.allowed}"


class AddressTaken(TallyError):
    """Nothing can listen at an address. Free it or choose another, and start again."""

    def __init__(self, option: str, address: str, number: int | None) -> None:
        """Name what failed.

        Args:
            option: What the address was given with.
            address: ``host:port``.
            number: Why, as an ``errno``; with any other one there is no such host.
        """
        super().__init__(option, address, number)
        self.option = option
        self.address = address
        self.number = number

    def __str__(self) -> str:
        if self.number == errno.EADDRINUSE:
            advice = f"it is in use; end what listens there, or choose another {self.option}"
        else:
            reason = os.strerror(self.number) if self.number and self.number > 0 else "there is no such host"
            advice = f"{reason}; choose another {self.option}"
        return f"can't listen on {self.address}: {advice}"


class BadClusterData(TallyError):
    """A value in etcd can't be read. Somebody else wrote it, or a newer version did."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason

    def __str__(self) -> str:
        return f"can't use {self.key} in etcd: {self.reason}"


class MapTooLarge(TallyError):
    """The map would be larger than what etcd takes in one value. Nothing was written."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"the map would have {self.size:,} bytes, and etcd takes {self.limit:,}: "
            "keep fewer copies, or have fewer shards"
        )


class ClusterMissing(TallyError):
    """etcd is there, but no cluster of that name."""

    def __init__(self, cluster: str) -> None:
        super().__init__(cluster)
        self.cluster = cluster

    def __str__(self) -> str:
        return (
            f"there is no cluster {self.cluster!r} in this etcd; make it with: tally create --cluster {self.cluster}; "
            f"or, if etcd has lost it, bring it back with: tally recover --cluster {self.cluster}"
        )


class SecretMissing(TallyError):
    """A cluster has no secret, without which its processes refuse each other. Make one, and start again."""

    def __init__(self, cluster: str = "") -> None:
        super().__init__(cluster)
        self.cluster = cluster

    def __str__(self) -> str:
        return (
            "the cluster has no secret for its processes to prove themselves with; one that an older version made has "
            f"none yet: end all its processes, then: tally secret create --cluster {self.cluster or 'NAME'}"
        )


class ClusterReplaced(TallyError):
    """The cluster of this process is gone: etcd holds another one of its name. Fatal; start again to join that."""

    def __init__(self, cluster: str, reason: str) -> None:
        super().__init__(cluster, reason)
        self.cluster = cluster
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"the cluster {self.cluster!r} in etcd is not the one that this process belongs to: {self.reason}; "
            "if etcd had lost that one, and this was made in its place, bring it back with: tally recover --data DIR"
        )


class ShardTaken(TallyError):
    """Another process runs as this shard, from another data directory. Nothing was changed."""

    def __init__(self, shard: str, address: str) -> None:
        super().__init__(shard, address)
        self.shard = shard
        self.address = address

    def __str__(self) -> str:
        return (
            f"shard {self.shard} is running at {self.address}, from another data directory; choose another --id, "
            "or end that process and wait until its lease has run out"
        )


class DirectoryRefused(TallyError):
    """A data directory does not belong to this process. Nothing in it was touched."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"refusing the data directory {self.path}: {self.reason}"


class DirectoryCopied(TallyError):
    """Another process registered as this shard: its data directory was copied. Fatal for this process."""

    def __init__(self, shard: str) -> None:
        super().__init__(shard)
        self.shard = shard

    def __str__(self) -> str:
        return (
            f"another process registered as shard {self.shard}: its data directory was copied, and is for one server "
            "only; end the other process, or start this one with an empty --data (TALLY_DATA) and another "
            "--id (TALLY_ID)"
        )


class StoreFailed(TallyError):
    """RocksDB answered with an I/O error: what was being written may or may not be there. Fatal for the process."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the store failed: {self.reason}"


class StoreBusy(TallyError):
    """RocksDB can't take a write just now; nothing was written. Write it again after a pause."""

    def __str__(self) -> str:
        return "the store is stalled"


class StoreCorrupt(TallyError):
    """A stored key or value does not decode, or writes are missing. A repetition does not cure it."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"the store is damaged: {self.what}"


class DataDamaged(TallyError):
    """A shard's database is damaged, and no other shard has all of its slots. It was left where it is."""

    def __init__(self, path: str, reason: str, slots: Sequence[int]) -> None:
        super().__init__(path, reason, slots)
        self.path = path
        self.reason = reason
        self.slots = slots

    def __str__(self) -> str:
        shown = ", ".join(str(slot) for slot in self.slots[:_SLOTS_SHOWN])
        more = len(self.slots) - _SLOTS_SHOWN
        return (
            f"the data in {self.path} is damaged ({self.reason}), and no other shard has slots {shown}"
            f"{f' and {more} more' if more > 0 else ''}; bring the disk back as it was, or go on without that data: "
            "--set-damaged-aside (TALLY_SET_DAMAGED_ASIDE=1), then tally give-up"
        )
