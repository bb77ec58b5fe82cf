"""Receipts: what a caller with several events is told, and when."""

import asyncio

import pytest

from tally.client.receipt import Receipt
from tally.errors import InDoubt, InvalidEvent, SetAside, TallyError, Unavailable
from tally.event import Refusal


def new_receipt(events: int) -> Receipt:
    return Receipt(events, asyncio.get_running_loop())


async def test_caller_is_told_when_the_last_of_its_events_is_counted() -> None:
    receipt = new_receipt(3)
    receipt.settle(Refusal.COUNTED)
    receipt.settle(Refusal.COUNTED)
    assert not receipt.future.done()
    receipt.settle(Refusal.COUNTED)
    assert receipt.future.result() is None


async def test_refused_event_fails_the_group_once_every_fate_is_known() -> None:
    receipt = new_receipt(2)
    receipt.settle(Refusal.USER_EMPTY)
    assert not receipt.future.done()
    receipt.settle(Refusal.USER_EMPTY)
    with pytest.raises(InvalidEvent, match="user must not be empty"):
        receipt.future.result()


async def test_group_is_not_called_invalid_when_some_of_it_was_counted() -> None:
    """An ``InvalidEvent`` says that nothing was."""
    receipt = new_receipt(2)
    receipt.settle(Refusal.USER_EMPTY)
    receipt.settle(Refusal.COUNTED)
    assert isinstance(receipt.future.exception(), InDoubt)


async def test_reason_of_a_newer_version_is_a_refusal_too() -> None:
    receipt = new_receipt(1)
    receipt.settle(200)
    assert isinstance(receipt.future.exception(), InvalidEvent)


async def test_event_in_doubt_fails_the_group_at_once() -> None:
    receipt = new_receipt(2)
    receipt.fail(InDoubt())
    with pytest.raises(InDoubt):
        receipt.future.result()


async def test_first_failure_is_the_one_that_is_told() -> None:
    receipt = new_receipt(1)
    receipt.fail(Unavailable("the first"))
    receipt.fail(InDoubt())
    with pytest.raises(Unavailable, match="the first"):
        receipt.future.result()


@pytest.mark.parametrize("error", [Unavailable("slot 3 could not be written in time"), SetAside(None, 15)])
async def test_group_of_which_one_event_was_not_counted_is_in_doubt(error: TallyError) -> None:
    """Both errors say that nothing was: who goes by that sends the other events again, and they count twice."""
    receipt = new_receipt(2)
    receipt.fail(error)
    assert isinstance(receipt.future.exception(), InDoubt)


async def test_answers_after_a_failure_change_nothing() -> None:
    receipt = new_receipt(2)
    receipt.fail(InDoubt())
    receipt.settle(Refusal.COUNTED)
    receipt.settle(Refusal.COUNTED)
    assert isinstance(receipt.future.exception(), InDoubt)


async def test_caller_that_went_away_is_told_nothing() -> None:
    settled, failed = new_receipt(1), new_receipt(1)
    settled.future.cancel()
    failed.future.cancel()
    settled.settle(Refusal.COUNTED)
    failed.fail(InDoubt())
    assert settled.future.cancelled()
    assert failed.future.cancelled()
