"""The peer: ``/analytics`` with FastAPI over Redis. Runs in the environment of the peers, not in Tally's.

The commands of one request go out together, and their answers come in one round trip.
"""

import os
from typing import Final

from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import PlainTextResponse
from redis.asyncio import Redis

_HOUR_MS: Final = 3_600_000

app = FastAPI()
redis = Redis(unix_socket_path=os.environ["BENCH_REDIS_SOCKET"])


@app.post("/analytics", status_code=204)
async def record(timestamp: int, user: str, click: str | None = None, impression: str | None = None) -> Response:
    """Count one event."""
    if (click is None) == (impression is None):
        raise HTTPException(400)
    hour = timestamp // _HOUR_MS
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.hincrby(f"counts:{hour}", "impressions" if click is None else "clicks", 1)
        pipeline.sadd(f"users:{hour}", user)
        await pipeline.execute()
    return Response(status_code=204)


@app.get("/analytics")
async def read(timestamp: int) -> Response:
    """Tell the numbers of one hour."""
    hour = timestamp // _HOUR_MS
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.hmget(f"counts:{hour}", ["clicks", "impressions"])
        pipeline.scard(f"users:{hour}")
        (clicks, impressions), users = await pipeline.execute()
    return PlainTextResponse(f"unique_users,{users}\nclicks,{int(clicks or 0)}\nimpressions,{int(impressions or 0)}\n")
