"""What the links and the note of a database say: is there what was written, and all that was flushed?"""

import random

import pytest

from shard.storage.links import LINKS, last_write, link_key
from tally.errors import StoreCorrupt


def after(writes: list[int]) -> list[bytes]:
    """Return the links that are there when just these writes were applied, in order."""
    links: set[bytes] = set()
    for number in writes:
        links.add(link_key(number))
        links.discard(link_key(number - 1))
    return sorted(links)


def test_new_database_begins_at_nothing() -> None:
    assert last_write([], noted=0) == 0


def test_beginning_of_what_was_written_is_good_if_it_has_all_that_was_flushed() -> None:
    assert last_write(after([1, 2, 3]), noted=3) == 3
    assert last_write(after([1, 2, 3, 4]), noted=3) == 4
    assert last_write(after([1, 2, 3]), noted=0) == 3


@pytest.mark.parametrize("left", [[1, 2], [1], []])
def test_flushed_write_that_is_missing_at_the_end_is_noticed(left: list[int]) -> None:
    with pytest.raises(StoreCorrupt, match="writes that were flushed are missing"):
        last_write(after(left), noted=3)


def test_writes_that_are_missing_in_the_middle_are_noticed_whatever_follows() -> None:
    """The first one stands in a table from the start, and is never among them."""
    for seed in range(200):
        chance = random.Random(seed)
        writes = list(range(1, chance.randint(4, 60)))
        first = chance.randrange(1, len(writes) - 1)
        del writes[first : chance.randrange(first + 1, len(writes))]
        with pytest.raises(StoreCorrupt, match="writes are missing between"):
            last_write(after(writes), noted=0)


def test_links_are_behind_all_that_a_shard_stores_and_sort_by_number() -> None:
    keys = [link_key(number) for number in (0, 1, 255, 256, 2**63)]
    assert keys == sorted(keys)
    assert all(LINKS[0] <= key < LINKS[1] for key in keys)


def test_key_that_is_no_link_is_damage() -> None:
    with pytest.raises(StoreCorrupt):
        last_write([b"\xff\0"], noted=0)
