"""How requests of many slots go to the controller together, and who waits for whom."""

import asyncio
from collections.abc import Sequence

from shard.rpc.asking import Asker
from tally.cluster.op_name import OpName
from tally.cluster.reader import ClusterReader
from tally.cluster.rows import Change, Request
from tests.support.waiting import running, until

FREE = Request(Change.REMOVE, 1, 5, "s1", "a1", "p0")
DOUBTED = FREE._replace(slot=2, head=OpName(4, 8, b"d" * 16))


class Reader(ClusterReader):
    """Reads nothing."""

    def __init__(self) -> None:
        """Nothing is needed."""

    def refresh_soon(self) -> None:
        pass


async def test_no_request_waits_for_the_look_at_who_another_is_in_doubt_about() -> None:
    asked: list[Request] = []
    look_ends = asyncio.Event()

    async def pass_on(requests: Sequence[Request]) -> None:
        asked.extend(requests)
        if any(request.doubted for request in requests):
            await look_ends.wait()

    asker = Asker(Reader(), pass_on)
    async with running(asker.run()):
        asker.ask(DOUBTED)
        await until(lambda: asked == [DOUBTED])
        asker.ask(FREE)
        asker.ask(DOUBTED._replace(slot=3))
        asker.ask(DOUBTED._replace(slot=3, epoch=6))
        await until(lambda: asked == [DOUBTED, FREE])
        look_ends.set()
        await until(lambda: asked == [DOUBTED, FREE, DOUBTED._replace(slot=3, epoch=6)])
