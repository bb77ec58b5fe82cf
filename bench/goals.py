"""What is wanted, and whether it was reached. The goals are data; judging them is pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bench.figures import Spread

REFERENCE: Final = "one copy, one shard, one gateway process, all on one core, 64 connections unless said"


@dataclass(frozen=True)
class Goal:
    """One line of the goals' table.

    Attributes:
        name: Under which a question tells what it measured.
        title: For the report.
        limit: What is to be kept to.
        unit: Of limit and measured value; empty for a ratio.
        at_least: The limit is the smallest value that is good; otherwise the largest.
    """

    name: str
    title: str
    limit: float
    unit: str = ""
    at_least: bool = False


GOALS: Final = (
    Goal("post/nginx-redis/64", "POST, CPU per request: Tally / nginx + Lua + Redis", 1.0),
    Goal("post/nginx-redis/256", "POST at 256 connections, the same", 0.7),
    Goal("get/nginx-redis/64", "GET, CPU per request: Tally / nginx + Lua + Redis", 0.75),
    Goal("get/nginx-redis/256", "GET at 256 connections, the same", 0.6),
    Goal("post/fastapi-redis/64", "POST, CPU per request: Tally / FastAPI + Redis", 0.15),
    Goal("get/fastapi-redis/64", "GET, CPU per request: Tally / FastAPI + Redis", 0.15),
    Goal("bulk", "bulk over gRPC, CPU per event: Tally / redis-cli --pipe", 1.0),
    Goal("latency/p99", "p99 of a durable POST at half of the top rate", 20, "ms"),
    Goal("copies", "CPU per POST over all processes, 3 shards: 3 copies / 1 copy", 2.2),
    Goal("shards", "CPU per POST over all processes: 3 shards / 1 shard", 1.3),
    Goal("overload/goodput", "goodput at 1.5 times the top rate / top rate", 0.75, at_least=True),
    Goal("overload/refusal", "p99 of a 503 at 1.5 times the top rate", 50, "ms"),
    Goal("overload/memory", "memory of all processes under overload, above before", 256, "MiB"),
    Goal("overload/recovery", "time until answers are as before, after 1.5 times the top rate", 10, "s"),
    Goal("big-hour/memory", "hour with 10 million users: shard memory above an empty one's", 300, "MB"),
    Goal("big-hour/post", "hour with 10 million users: POST, CPU / that of an empty hour", 1.3),
    Goal("big-hour/get", "hour with 10 million users: GET, CPU / that of an empty hour", 1.3),
    Goal("history/get", "40,000 hours of history: GET of any hour, CPU / that of the current hour", 1.5),
    Goal("history/memory", "40,000 hours of history: shard memory above that with 4,000 hours", 32, "MiB"),
)


def verdict(goal: Goal, measured: Spread | None) -> str:
    """Say whether a goal is met, or by how much it is missed. Pure."""
    if measured is None:
        return "not measured"
    value, limit = measured.median, goal.limit
    if value >= limit if goal.at_least else value <= limit:
        return "met"
    return f"missed by {100 * abs(value / limit - 1):,.0f} %"


def rows(measured: Mapping[str, Spread]) -> list[tuple[str, str, str, str, str]]:
    """Return the goals' table: what, limit, measured, its spread, verdict. Pure."""
    table = []
    for goal in GOALS:
        found = measured.get(goal.name)
        limit = f"{'at least' if goal.at_least else 'at most'} {number(goal.limit, goal.unit)}"
        value = number(found.median, goal.unit) if found else "–"
        spread = f"{number(found.low)} … {number(found.high)}" if found and found.low < found.high else ""
        table.append((goal.title, limit, value, spread, verdict(goal, found)))
    return table


def number(value: float, unit: str = "") -> str:
    """Write a value with three digits or so. Pure."""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f} {unit}".rstrip()
