"""The header Idempotency-Key: exactly one valid key, or none."""

import pytest

from gateway.idempotency import key_of
from tally.errors import InvalidEvent


def test_request_without_the_header_has_no_key() -> None:
    assert key_of([]) is None


@pytest.mark.parametrize("value", ["k", '"k"', "one two", "a, b", "k" * 128])
def test_one_valid_value_is_the_key_as_it_is(value: str) -> None:
    assert key_of([value]) == value


@pytest.mark.parametrize("values", [[""], ["é"], ["a\tb"], ["k" * 129], ["a", "a"], ["a", "b"], ["", ""]])
def test_anything_else_is_refused_and_names_the_header(values: list[str]) -> None:
    with pytest.raises(InvalidEvent) as raised:
        key_of(values)
    assert raised.value.parameter == "Idempotency-Key"
