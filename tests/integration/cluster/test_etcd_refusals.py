"""An endpoint that refuses speaks for itself only: the next one is asked, for transactions too."""

from collections.abc import Awaitable, Callable

import grpc
import pytest

from tally.cluster.etcd import Etcd, EtcdSettings, Put
from tally.cluster.keys import Keys
from tally.errors import EtcdRefused, EtcdUnavailable
from tests.support.etcd import EtcdServer, free_ports
from tests.support.refusing_etcd import RefusingEtcd

LEARNER = "etcdserver: rpc not supported for learner"
OLD_USERS = "etcdserver: permission denied"


@pytest.mark.parametrize(
    ("code", "details"),
    [
        (grpc.StatusCode.FAILED_PRECONDITION, LEARNER),
        (grpc.StatusCode.UNAVAILABLE, LEARNER),
        (grpc.StatusCode.PERMISSION_DENIED, OLD_USERS),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: too many requests"),
    ],
)
async def test_endpoint_that_refuses_is_passed_by(
    server: EtcdServer, keys: Keys, code: grpc.StatusCode, details: str
) -> None:
    async with RefusingEtcd(code, details) as other:

        def anew() -> Etcd:
            return Etcd(EtcdSettings(endpoints=(other.endpoint, server.endpoint)))

        questions: list[Callable[[Etcd], Awaitable[object]]] = [
            lambda etcd: etcd.commit([], [Put(keys.map, "x")]),
            lambda etcd: etcd.read(keys.map),
            lambda etcd: etcd.alarms(),
            lambda etcd: etcd.grant_lease(5),
        ]
        for ask in questions:
            etcd = anew()
            assert await ask(etcd) is not None
            await etcd.close()
        etcd = anew()
        lease = await etcd.grant_lease(5)
        await etcd.close()
        etcd = anew()
        assert await etcd.keep_alive(lease) == 5
        await etcd.close()
        etcd = anew()
        await etcd.revoke(lease)
        await etcd.close()
        assert set(other.asked) == {"Txn", "Range", "Alarm", "LeaseGrant", "LeaseKeepAlive", "LeaseRevoke"}


async def test_transaction_whose_log_in_failed_goes_to_the_next(server: EtcdServer, keys: Keys) -> None:
    """Nothing was sent yet, whatever the log-in failed of."""
    async with RefusingEtcd(grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out") as other:
        etcd = Etcd(EtcdSettings(endpoints=(other.endpoint, server.endpoint), user="ann", password="x"))
        assert (await etcd.commit([], [Put(keys.map, "x")])).ok
        assert set(other.asked) == {"Authenticate"}
        await etcd.close()


async def test_transaction_that_may_have_been_done_goes_to_no_other(server: EtcdServer, keys: Keys) -> None:
    async with RefusingEtcd(grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out") as other:
        etcd = Etcd(EtcdSettings(endpoints=(other.endpoint, server.endpoint)))
        with pytest.raises(EtcdUnavailable, match="request timed out"):
            await etcd.commit([], [Put(keys.map, "x")])
        assert await etcd.read(keys.map) is None
        await etcd.close()


async def test_what_all_refuse_is_refused_and_a_learner_has_no_voice() -> None:
    (dead,) = free_ports(1)
    async with (
        RefusingEtcd(grpc.StatusCode.PERMISSION_DENIED, OLD_USERS) as one,
        RefusingEtcd(grpc.StatusCode.PERMISSION_DENIED, OLD_USERS) as two,
        RefusingEtcd(grpc.StatusCode.FAILED_PRECONDITION, LEARNER) as learner,
    ):
        cases: list[tuple[tuple[str, ...], type[Exception], str]] = [
            ((one.endpoint, learner.endpoint, two.endpoint), EtcdRefused, OLD_USERS),
            ((learner.endpoint,), EtcdUnavailable, LEARNER),
            ((one.endpoint, f"127.0.0.1:{dead}"), EtcdUnavailable, OLD_USERS),
        ]
        for endpoints, error, text in cases:
            etcd = Etcd(EtcdSettings(endpoints=endpoints), timeout_s=1.0)
            for question in (etcd.read("/a"), etcd.commit([], [Put("/a", "")])):
                with pytest.raises(error, match=text):
                    await question
            await etcd.close()
