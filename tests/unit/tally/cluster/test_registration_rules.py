"""What a registered process does after a look at its lease and its alive key."""

import pytest

from tally.cluster.members import Member
from tally.cluster.registration import Step, check_free, next_step
from tally.errors import DirectoryCopied, ShardTaken
from tests.support.cluster_values import key_value

OURS = "00112233aabbccdd"
KEY = "/tally/t/alive/s1"


def test_own_key_under_a_lease_that_runs_stays() -> None:
    assert next_step("s1", OURS, 5, key_value(KEY, OURS), 10) is Step.STAY


def test_key_that_is_gone_is_registered_again() -> None:
    assert next_step("s1", OURS, 5, None, 10) is Step.REGISTER_AGAIN


def test_lease_that_has_run_out_is_registered_again_though_the_key_is_still_there() -> None:
    assert next_step("s1", OURS, 5, key_value(KEY, OURS), 0) is Step.REGISTER_AGAIN
    assert next_step("s1", OURS, 5, None, 0) is Step.REGISTER_AGAIN


@pytest.mark.parametrize("ttl_s", [0, 10])
@pytest.mark.parametrize("theirs", ["ffffffffffffffff", "", OURS.upper()])
def test_key_of_another_process_ends_this_one(theirs: str, ttl_s: int) -> None:
    with pytest.raises(DirectoryCopied, match="s1"):
        next_step("s1", OURS, 5, key_value(KEY, theirs, mod=6), ttl_s)


def test_key_of_an_earlier_process_comes_from_a_restored_etcd_and_is_registered_again() -> None:
    assert next_step("s1", OURS, 5, key_value(KEY, "f" * 16, mod=4), 10) is Step.REGISTER_AGAIN


MEMBER = key_value("/tally/t/members/s1", Member("10.0.0.1:9101", "10.0.0.1:9201", "ab" * 16).to_json())


def test_running_shard_is_not_replaced_by_one_with_another_directory() -> None:
    with pytest.raises(ShardTaken, match="s1 is running at"):
        check_free("s1", "cd" * 16, key_value(KEY, OURS), MEMBER)


def test_restarted_process_need_not_wait_for_its_old_lease() -> None:
    check_free("s1", "ab" * 16, key_value(KEY, OURS), MEMBER)


def test_shard_that_does_not_run_can_come_back_with_an_emptied_directory() -> None:
    check_free("s1", "cd" * 16, None, MEMBER)
    check_free("s1", "cd" * 16, None, None)
