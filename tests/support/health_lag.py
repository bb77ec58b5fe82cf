"""How long a shard takes to say that it is there, asked again and again from a process that does nothing else.

``python -m tests.support.health_lag HOST:PORT SECONDS`` asks every 20 ms, each time whatever became of the one before,
and prints a line of JSON: milliseconds, sorted. What got no answer within a second counts as that second.
"""

import asyncio
import json
import sys
import time
from typing import Final

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support import commands

_EVERY_S: Final = 0.02
_ANSWER_S: Final = 1.0


async def lags_ms(address: str, seconds: float) -> list[float]:
    """Return how long each answer took, sorted, as a process of its own measures it."""
    command = (sys.executable, "-P", "-m", "tests.support.health_lag", address, str(seconds))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, stderr=pipe, env=commands.environment()
    )
    done = await commands.finish(process, within_s=seconds + 30)
    assert done.status == 0, done.err
    found: list[float] = json.loads(done.out)
    return found


def p99(sorted_ms: list[float]) -> float:
    """Return what 99 of 100 stay below."""
    return sorted_ms[len(sorted_ms) * 99 // 100]


async def _measure(address: str, seconds: float) -> list[float]:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        await channel.channel_ready()
        took: list[float] = []

        async def ask() -> None:
            began = time.monotonic()
            try:
                await stub.Check(health_pb2.HealthCheckRequest(), timeout=_ANSWER_S)
            except grpc.aio.AioRpcError:
                took.append(1000 * _ANSWER_S)
            else:
                took.append(1000 * (time.monotonic() - began))

        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            while time.monotonic() < end:
                group.create_task(ask())
                await asyncio.sleep(_EVERY_S)
        return sorted(took)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measure(sys.argv[1], float(sys.argv[2])))))  # noqa: T201 - its result.
