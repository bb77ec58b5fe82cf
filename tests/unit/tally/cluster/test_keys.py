"""The names of keys in etcd, and who can have one."""

import pytest

from tally.cluster.keys import Keys, check_name
from tally.errors import ConfigError


@pytest.mark.parametrize("name", ["a", "7", "s1", "shard-1.eu_west", "a" * 63])
def test_plain_names_are_taken(name: str) -> None:
    assert check_name("shard", name) == name


@pytest.mark.parametrize("name", ["", "a" * 64, "-a", ".a", "_a", "A", "a/b", "a b", "ä", "a\n", "..", "a\x00"])
def test_names_that_could_leave_their_key_or_file_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="shard"):
        check_name("shard", name)


def test_all_keys_of_a_cluster_are_below_its_prefix() -> None:
    keys = Keys("eu")
    all_keys = [keys.config, keys.secret, keys.map, keys.controller, keys.member("s1"), keys.alive_of("s1")]
    assert all(key.startswith("/tally/eu/") for key in all_keys)
    assert len(set(all_keys)) == len(all_keys)


def test_no_cluster_sees_the_keys_of_one_whose_name_begins_like_its_own() -> None:
    assert not Keys("eu2").config.startswith(Keys("eu").prefix)
