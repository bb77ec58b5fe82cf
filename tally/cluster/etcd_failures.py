"""What a failed question to one member of etcd means: for that member, for all of them, and for what was asked. Pure.

A member speaks for itself. A learner refuses nearly everything, and one that lags refuses by users of yesterday; the
next one may do it. What all would say is what they have agreed on: that a lease has run out, or that etcd is full.
"""

from enum import Enum, auto
from typing import Final

import grpc

STALE_TOKEN: Final = ("invalid auth token", "revision of auth store is old", "user name is empty")
"""What etcd says, with several codes, to a token that it does not know or that is from before a change of its users."""
AUTH_IS_OFF: Final = "authentication is not enabled"

_LEASE_GONE: Final = "requested lease not found"
_FULL: Final = "database space exceeded"
_LEARNER: Final = "rpc not supported for learner"  # FAILED_PRECONDITION in etcd 3.6, UNAVAILABLE in 3.5.
# Said before anything is done, with codes that leave it open.
_BEFORE_ALL: Final = (
    _LEARNER,
    "etcdserver: no leader",
    "etcdserver: too many requests",  # It lags behind.
    "etcdserver: not capable",  # An older version than the others.
)
# With these nothing was done. All other codes leave it open.
_NO: Final = frozenset(
    {
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


class Failure(Enum):
    """What the failure of one member means.

    | | was it done? | another member |
    |---|---|---|
    | LEASE_GONE, FULL | no | would say the same |
    | REFUSED | no | may do it; if none does, it is refused for good |
    | NO_VOICE | no | may do it; this one says nothing of whether it would |
    | OPEN | perhaps | may do it |
    """

    LEASE_GONE = auto()
    FULL = auto()
    REFUSED = auto()
    NO_VOICE = auto()
    OPEN = auto()

    @property
    def of_all(self) -> bool:
        """Whether there is no use in asking another member."""
        return self in {Failure.LEASE_GONE, Failure.FULL}


def failure_of(code: grpc.StatusCode, details: str) -> Failure:
    """Return what a failure means; etcd's codes alone do not tell."""
    if _FULL in details:
        return Failure.FULL
    if any(text in details for text in _BEFORE_ALL):
        return Failure.NO_VOICE
    if code not in _NO:
        return Failure.OPEN
    return Failure.LEASE_GONE if _LEASE_GONE in details else Failure.REFUSED
