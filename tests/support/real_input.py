"""133,762 real events, what every hour must answer after them, and the comparison with what a cluster answers.

The events are eight public projects' commit histories, as they came, 18.6 % of them late: author time is event time,
author is user, a merge is a click, anything else an impression. The truth was computed from them by an SQL query.
"""

import asyncio
import csv
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import aiohttp

_DATA: Final = Path(__file__).parents[1] / "data"
EVENTS_FILE: Final = _DATA / "commits-events.csv.gz"
EVENTS: Final = 133_762
HOURS: Final = 43_833

_LAST_MS_OF_HOUR: Final = 3_599_999
_CONNECTIONS: Final = 64


def truth() -> dict[int, str]:
    """Return the answer to a GET for each hour that has events, by the first millisecond of the hour."""
    with gzip.open(_DATA / "commits-truth.csv.gz", "rt", newline="") as file:
        return {
            int(row["hour_start_ms"]): (
                f"unique_users,{row['unique_users']}\nclicks,{row['clicks']}\nimpressions,{row['impressions']}\n"
            )
            for row in csv.DictReader(file)
        }


async def wrong_hours(url: str) -> list[str]:
    """Read every hour back and name those that are not as they must be, the earliest first."""
    expected = truth()
    answers = await _read(url, iter(expected))
    return [
        f"hour {start}: {answers[start]!r}, not {expected[start]!r}"
        for start in sorted(expected)
        if answers[start] != expected[start]
    ]


async def _read(url: str, starts: Iterator[int]) -> dict[int, str]:
    """GET each of these hours, many at a time."""
    answers: dict[int, str] = {}

    async def work(session: aiohttp.ClientSession) -> None:
        for start in starts:  # Shared: each hour goes to one worker.
            async with session.get(f"{url}/analytics?timestamp={start + _LAST_MS_OF_HOUR}") as answer:
                body = await answer.text()
                answers[start] = body if answer.status == 200 else f"{answer.status} {body}"

    connector = aiohttp.TCPConnector(limit=_CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(work(session) for _ in range(_CONNECTIONS)))
    return answers
