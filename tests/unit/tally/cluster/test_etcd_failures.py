"""A refusal of one member of etcd is its own, unless all have agreed on it."""

import grpc
import pytest

from tally.cluster.etcd_failures import Failure, failure_of

CODE = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "details", "failure"),
    [
        (CODE.NOT_FOUND, "etcdserver: requested lease not found", Failure.LEASE_GONE),
        (CODE.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", Failure.FULL),
        (CODE.INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password", Failure.REFUSED),
        (CODE.PERMISSION_DENIED, "etcdserver: permission denied", Failure.REFUSED),
        (CODE.UNAUTHENTICATED, "etcdserver: invalid auth token", Failure.REFUSED),
        (CODE.FAILED_PRECONDITION, "etcdserver: rpc not supported for learner", Failure.NO_VOICE),
        (CODE.UNAVAILABLE, "etcdserver: rpc not supported for learner", Failure.NO_VOICE),
        (CODE.UNAVAILABLE, "etcdserver: no leader", Failure.NO_VOICE),
        (CODE.RESOURCE_EXHAUSTED, "etcdserver: too many requests", Failure.NO_VOICE),
        (CODE.UNAVAILABLE, "etcdserver: leader changed", Failure.OPEN),
        (CODE.UNAVAILABLE, "etcdserver: request timed out", Failure.OPEN),
        (CODE.UNKNOWN, "", Failure.OPEN),
        (CODE.DEADLINE_EXCEEDED, "", Failure.OPEN),
    ],
)
def test_what_a_member_says_means_one_thing(code: grpc.StatusCode, details: str, failure: Failure) -> None:
    assert failure_of(code, details) is failure
