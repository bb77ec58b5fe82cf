"""Which answers of shards are believed."""

import asyncio

from tally.cluster.controller.health_calls import BELIEVED_S, HealthAnswers, HealthCalls
from tally.cluster.planning.health import CopyHealth, ShardHealth
from tests.support.waiting import until

WELL = ShardHealth({0: CopyHealth("a0", complete=True, epoch=1, serving=True)})


def test_answer_is_believed_for_a_while_from_when_it_was_asked_for() -> None:
    answers = HealthAnswers()
    answers.note("s0", 10.0, WELL)
    assert answers.believed(10.0 + BELIEVED_S) == {"s0": WELL}
    assert answers.believed(10.1 + BELIEVED_S) == {"s0": None}


def test_failed_call_is_silence_at_once() -> None:
    answers = HealthAnswers()
    answers.note("s0", 10.0, WELL)
    answers.note("s0", 10.5, None)
    assert answers.believed(10.6) == {"s0": None}


def test_difference_is_what_the_plan_may_see() -> None:
    answers = HealthAnswers()
    assert answers.note("s0", 1.0, None)  # The first: now it was asked.
    assert not answers.note("s0", 2.0, None)
    assert answers.note("s0", 3.0, WELL)
    assert not answers.note("s0", 4.0, ShardHealth(dict(WELL.copies)))
    assert answers.note("s0", 5.0, ShardHealth(WELL.copies, stopping=True))
    assert answers.note("s0", 6.0, None)
    assert answers.note("s0", 7.0, WELL)
    assert answers.note("s0", 10.0, WELL)  # It was unknown in between.


def test_missing_is_who_was_never_asked_to_the_end() -> None:
    answers = HealthAnswers()
    answers.note("s0", 1.0, None)
    assert not answers.missing(["s0"])
    assert answers.missing(["s0", "s1"])


def test_unknown_is_who_was_not_asked_lately_but_not_who_is_silent() -> None:
    """A controller that was frozen for some seconds must not take all others for dead."""
    answers = HealthAnswers()
    answers.note("s0", 1.0, WELL)
    answers.note("s1", 1.0, None)
    assert not answers.unknown(["s0", "s1"], 1.0 + BELIEVED_S)
    assert answers.unknown(["s0"], 1.1 + BELIEVED_S)
    assert not answers.unknown(["s1"], 60.0)
    assert answers.unknown(["s2"], 1.0)


async def test_one_call_to_a_shard_at_a_time_and_a_bug_is_silence() -> None:
    asked: list[str] = []
    go_on = asyncio.Event()
    differences: list[None] = []

    async def ask(shard: str, address: str) -> ShardHealth | None:
        asked.append(f"{shard} {address}")
        if shard == "s1":
            raise ValueError("a bug")
        await go_on.wait()
        return WELL

    calls = HealthCalls(ask, lambda: differences.append(None))
    both = {"s0": "a:0", "s1": "a:1"}
    calls.ask_all(both)
    await until(lambda: not calls.answers.missing(["s1"]))
    calls.ask_all(both)
    await asyncio.sleep(0)
    assert asked == ["s0 a:0", "s1 a:1", "s1 a:1"]
    go_on.set()
    await until(lambda: not calls.answers.missing(both))
    assert len(differences) == 2
    now = asyncio.get_running_loop().time()
    assert calls.answers.believed(now) == {"s0": WELL, "s1": None}
    await calls.close()


async def test_look_asks_anew_and_those_who_look_at_once_share_a_call() -> None:
    """What was asked before a request came says nothing of what happened until then."""
    asked = 0
    go_on = asyncio.Event()

    async def ask(_shard: str, _address: str) -> ShardHealth | None:
        nonlocal asked
        asked += 1
        number = asked
        await go_on.wait()
        return ShardHealth({0: CopyHealth(f"a{number}", complete=True, epoch=1)})

    calls = HealthCalls(ask, lambda: None)
    calls.ask_all({"s0": "a:0"})
    await until(lambda: asked == 1)
    looks = [asyncio.create_task(calls.look("s0", "a:0")) for _ in range(3)]
    await asyncio.sleep(0)
    go_on.set()
    seen = await asyncio.gather(*looks)
    assert asked == 2
    assert [one and one.copies[0].incarnation for one in seen] == ["a2"] * 3
    assert calls.answers.believed(asyncio.get_running_loop().time())["s0"] == seen[0]


async def test_look_at_who_is_silent_ends() -> None:
    async def ask(_shard: str, _address: str) -> ShardHealth | None:
        return None

    calls = HealthCalls(ask, lambda: None)
    assert await calls.look("s0", "a:0") is None


async def test_look_that_is_under_way_when_all_ends_begins_no_other_call() -> None:
    asked: list[str] = []

    async def ask(shard: str, _address: str) -> ShardHealth | None:
        asked.append(shard)
        await asyncio.Event().wait()
        return WELL

    calls = HealthCalls(ask, lambda: None)
    calls.ask_all({"s0": "a:0"})
    look = asyncio.create_task(calls.look("s0", "a:0"))
    await until(lambda: asked == ["s0"])
    await calls.close()
    assert await look is None
    assert not calls._under_way


async def test_what_was_asked_before_a_new_beginning_does_not_count() -> None:
    go_on = asyncio.Event()

    async def ask(_shard: str, _address: str) -> ShardHealth | None:
        await go_on.wait()
        return WELL

    calls = HealthCalls(ask, lambda: None)
    calls.ask_all({"s0": "a:0"})
    await asyncio.sleep(0)
    calls.forget()
    go_on.set()
    await until(lambda: not calls._under_way)
    assert calls.answers.missing(["s0"])
