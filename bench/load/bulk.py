"""Events over gRPC, a thousand a call, some calls under way at a time: what an internal service does with many events.

A process of its own, ``python -m bench.load.bulk SPEC``, so that its CPU is not that of the benchmark.
"""

import json
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Final, NamedTuple

import grpc

from bench.counts import HOUR_MS
from bench.errors import LoadFailed
from protos.tally.v1 import analytics_pb2, analytics_pb2_grpc
from tally.address import Address

_ROOT: Final = Path(__file__).parents[2]
_CALL_S: Final = 20.0
_CALLS: Final = 4
EVENTS_A_CALL: Final = 1000


class Spec(NamedTuple):
    """What to send.

    Attributes:
        target: A shard's ``host:port``.
        hour: The newest hour.
        hours: Over how many hours, that one and those before it, the events are spread in turn.
        events: How many; each has a user of its own.
        seed: Users are named after it.
    """

    target: str
    hour: int
    hours: int
    events: int
    seed: int


def send(spec: Spec) -> float:
    """Send all events, and wait until each is acknowledged; return how many seconds that took."""
    began = time.monotonic()
    under_way: deque[grpc.Future[analytics_pb2.RecordResponse]] = deque()
    with grpc.insecure_channel(spec.target) as channel:
        stub = analytics_pb2_grpc.AnalyticsStub(channel)
        for first in range(0, spec.events, EVENTS_A_CALL):
            if len(under_way) == _CALLS:
                under_way.popleft().result()
            request = _request(spec, range(first, min(spec.events, first + EVENTS_A_CALL)))
            under_way.append(stub.Record.future(request, timeout=_CALL_S))
        for call in under_way:
            call.result()
    return time.monotonic() - began


def _request(spec: Spec, numbers: range) -> analytics_pb2.RecordRequest:
    return analytics_pb2.RecordRequest(
        events=[
            analytics_pb2.Event(
                timestamp_ms=(spec.hour - number % spec.hours) * HOUR_MS + number % HOUR_MS,
                user=user(spec.seed, number),
                kind=analytics_pb2.KIND_CLICK,
            )
            for number in numbers
        ]
    )


def user(seed: int, number: int) -> str:
    """Return the name of a user. Pure. Neighbours do not follow one another in the order of names."""
    return f"{number * 0x9E3779B1 & 0xFFFFFFFF:08x}-{seed:x}-{number:x}"


def run_bulk(address: Address, *, hour: int, events: int, seed: int, hours: int = 1, within_s: float) -> float:
    """Let a process send ``events`` as ``Spec`` says; return how many seconds that took.

    Raises:
        LoadFailed: Some were not acknowledged, or not in time.
    """
    spec = Spec(str(address), hour, hours, events, seed)
    command = [sys.executable, "-m", "bench.load.bulk", json.dumps(spec._asdict())]
    try:
        ended = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True, timeout=within_s)
    except subprocess.TimeoutExpired as exc:
        raise LoadFailed(f"{events:,} events were not acknowledged within {within_s:.0f} s") from exc
    except subprocess.CalledProcessError as exc:
        raise LoadFailed(f"bulk ended with status {exc.returncode}: {exc.stderr[-2000:]}") from exc
    return float(ended.stdout)


if __name__ == "__main__":
    sys.stdout.write(f"{send(Spec(**json.loads(sys.argv[1])))}\n")
