"""Where single shards are reached, as a process is told it."""

import re

import pytest

from tally.cluster.resolve import parse_resolve
from tally.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("", {}),
        ("s1=127.0.0.1:7001", {"s1": "127.0.0.1:7001"}),
        ("s1=a.example:1,s-2=[::1]:2", {"s1": "a.example:1", "s-2": "[::1]:2"}),
    ],
)
def test_each_named_shard_has_its_address(text: str, addresses: dict[str, str]) -> None:
    assert parse_resolve(text) == addresses


@pytest.mark.parametrize("text", ["s1", "=a:1", "s1=", "s1=a", "s1=a:0", "s1=a:1,", "s1=a:1,s1=a:2", "S 1=a:1", ","])
def test_anything_else_is_refused_by_the_name_of_the_setting(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape("--resolve (TALLY_RESOLVE) is ")):
        parse_resolve(text)
