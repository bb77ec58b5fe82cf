"""Errors say what to do next, and survive being copied and pickled."""

import copy
import errno
import pickle

import pytest

from tally.errors import AddressTaken


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EADDRINUSE, "it is in use; end what listens there, or choose another --http"),
        (errno.EACCES, "Permission denied; choose another --http"),
        (-2, "there is no such host; choose another --http"),  # As the resolver numbers it.
        (None, "there is no such host; choose another --http"),
    ],
)
def test_address_that_can_not_be_listened_on_is_told_with_what_to_do(number: int | None, told: str) -> None:
    error = AddressTaken("--http", "127.0.0.1:80", number)
    assert str(error) == f"can't listen on 127.0.0.1:80: {told}"
    assert str(copy.copy(error)) == str(pickle.loads(pickle.dumps(error))) == str(error)
