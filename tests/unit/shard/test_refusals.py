"""How long a refusal counts."""

from shard.engine.refusals import RECENT_S, Reason, Refusals


def test_last_refusal_of_a_slot_counts_for_a_while() -> None:
    refusals = Refusals()
    refusals.note(3, Reason.OUT_OF_ORDER, 0.0)
    refusals.note(3, Reason.WRITER_FORGOTTEN, 1.0)
    refusals.note(5, Reason.MALFORMED, 2.0)
    assert refusals.recent(2.0) == {3: Reason.WRITER_FORGOTTEN, 5: Reason.MALFORMED}
    assert refusals.recent(1.5 + RECENT_S) == {5: Reason.MALFORMED}
    assert refusals.recent(2.5 + RECENT_S) == {}
