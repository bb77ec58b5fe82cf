"""A link to a shard outlives whatever goes wrong in what it calls."""

import asyncio
from typing import Any

import grpc.aio

from tally.client.link import ShardLink


class Broken:
    """A stream that breaks at once."""

    async def read(self) -> Any:
        return grpc.aio.EOF

    async def write(self, _: Any) -> None:
        return

    def cancel(self) -> None:
        return


async def test_link_whose_owner_fails_once_connects_again_and_tells_how_often_it_broke() -> None:
    broken, enough = 0, asyncio.Event()

    def on_broken(_refused: bool) -> None:
        nonlocal broken
        broken += 1
        link.wake()
        if broken == 1:
            raise OSError("as a log that can't be written")
        if broken == 2:
            enough.set()

    link: ShardLink[str, str] = ShardLink(
        "s1",
        "127.0.0.1:1",
        method=lambda _: lambda **_: Broken(),
        metadata=grpc.aio.Metadata,
        fill=lambda: None,
        on_response=lambda _: None,
        on_broken=on_broken,
    )
    link.start("link to s1", pause_s=0)
    link.wake()
    await asyncio.wait_for(enough.wait(), 5)
    assert link.failures == 2
    await link.close()
