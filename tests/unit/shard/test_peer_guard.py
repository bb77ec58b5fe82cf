"""Whose calls the internal service takes, by what goes with them."""

from dataclasses import replace

import grpc
import pytest
from structlog.testing import capture_logs

from shard.rpc.peer_guard import LOG_EVERY_S, STRANGER, PeerGuard, refusal
from tally.client.channel import CLUSTER_HEADER, SECRET_HEADER, SHARD_HEADER, peer_metadata
from tally.cluster.secret import ClusterSecret
from tally.errors import SecretMissing
from tests.support.cluster_values import SECRET, UUID, state

STATE = state()
OWN = (SECRET_HEADER, SECRET.reveal())
MEANT = ((CLUSTER_HEADER, UUID), (SHARD_HEADER, "s1"))


def test_call_of_the_cluster_that_means_this_shard_is_taken() -> None:
    assert refusal((OWN, *MEANT), STATE, "s1") is None
    assert refusal(tuple(peer_metadata(STATE, "s1", "s2")), STATE, "s1") is None


@pytest.mark.parametrize(
    "offered",
    [
        [],
        [""],
        ["0" * 64],
        [b"\xff\x00"],
        [SECRET.reveal()[:-1]],
        [SECRET.reveal() + "0"],
        [SECRET.reveal() * 2],
        [SECRET.reveal()] * 2,
        [SECRET.reveal(), "0" * 64],
        ["x" * 100_000],
    ],
)
def test_stranger_is_told_nothing_whatever_else_he_knows(offered: list[str | bytes]) -> None:
    pairs = [(SECRET_HEADER, one) for one in offered]
    for meant in ((), MEANT, ((CLUSTER_HEADER, "f" * 32), (SHARD_HEADER, "s9"))):
        found = refusal([*pairs, *meant], STATE, "s1")
        assert found is STRANGER
    assert not {"s1", UUID, SECRET.reveal()} & set(STRANGER.text.split())


def test_nobody_is_let_in_while_there_is_no_secret() -> None:
    for offered in ([], [(SECRET_HEADER, "")], [(SECRET_HEADER, "None")], [OWN]):
        assert refusal([*offered, *MEANT], replace(STATE, secret=None), "s1") is STRANGER
    with pytest.raises(SecretMissing):
        peer_metadata(replace(STATE, secret=None), "s1")


@pytest.mark.parametrize(
    "meant",
    [
        (),
        MEANT[:1],
        MEANT[1:],
        ((CLUSTER_HEADER, "f" * 32), (SHARD_HEADER, "s1")),
        ((CLUSTER_HEADER, UUID), (SHARD_HEADER, "s2")),
        (*MEANT, (SHARD_HEADER, "s2")),
        (*MEANT, (CLUSTER_HEADER, "f" * 32)),
    ],
)
def test_call_of_the_cluster_that_means_another_is_refused(meant: tuple[tuple[str, str], ...]) -> None:
    found = refusal((OWN, *meant), STATE, "s1")
    assert found is not None
    assert found.code is grpc.StatusCode.FAILED_PRECONDITION


def test_secret_that_is_replaced_counts_from_then_on() -> None:
    later = replace(STATE, secret=ClusterSecret.draw())
    assert refusal((OWN, *MEANT), later, "s1") is STRANGER
    assert refusal(tuple(peer_metadata(later, "s1")), later, "s1") is None


def test_strangers_do_not_fill_the_log() -> None:
    guard = PeerGuard(lambda: STATE, "s1")
    with capture_logs() as lines:
        for call in range(1000):
            guard._note_stranger(call / 1000)
        guard._note_stranger(LOG_EVERY_S)
    assert [(line["event"], line["calls"]) for line in lines] == [("strangers_refused", 1), ("strangers_refused", 1000)]
