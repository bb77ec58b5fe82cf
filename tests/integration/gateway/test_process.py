"""The command ``tally-gateway`` from start to end, without a cluster."""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.app import App
from gateway.process import finish_requests
from gateway.protocol import HttpServer
from tests.support.http_door import GOOD, PATIENT_S, POST
from tests.support.memory_backend import MemoryBackend
from tests.support.raw_http import RawClient
from tests.support.waiting import until

NOWHERE = "127.0.0.1:1"  # No etcd listens there.


async def start(*arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "gateway", "--lame-duck-s", "0", *arguments),
        stdout=PIPE,
        stderr=PIPE,
        env=env,
        cwd=cwd,
    )


async def listening_port(process: Process, event: str = "listening") -> int:
    assert process.stderr is not None
    while line := await process.stderr.readline():
        told = json.loads(line)
        if told["event"] == event:
            return int(told["address"].rsplit(":", 1)[1])
    raise AssertionError("the gateway did not start")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_gateway_without_a_cluster_is_healthy_but_not_ready(number: signal.Signals) -> None:
    process = await start("--etcd", NOWHERE, "--listen", "127.0.0.1:0")
    port = await listening_port(process)
    async with await RawClient.connect(port) as client:
        assert (await client.ask("GET", "/healthz")).status == 200
        answer = await client.ask("GET", "/readyz")
        assert (answer.status, answer.body) == (503, b"not ready\nthe cluster is not found yet\n")
        assert (await client.ask("POST", GOOD)).problem["status"] == 503
        process.send_signal(number)
        assert await client.is_closed()
    _, complaints = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0
    assert b"Traceback" not in complaints

    process = await start("--etcd", NOWHERE, "--listen", f"127.0.0.1:{port}")  # The same port, at once.
    assert await listening_port(process) == port
    process.terminate()
    await process.communicate()


async def test_gateway_that_ends_serves_on_for_a_while_but_is_not_ready() -> None:
    """So a balancer sees that it goes, before anybody is refused."""
    process = await start("--etcd", NOWHERE, "--listen", "127.0.0.1:0", "--lame-duck-s", "1")
    port = await listening_port(process)
    async with await RawClient.connect(port) as client:
        assert (await client.ask("GET", "/healthz")).status == 200
        process.terminate()
        await told(process, "stopping")
        answer = await client.ask("GET", "/healthz")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
    async with await RawClient.connect(port) as client:
        answer = await client.ask("GET", "/readyz")
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert b"shutting down" in answer.body
    async with await RawClient.connect(port) as idle:
        await asyncio.wait_for(process.communicate(), 10)
        assert await idle.is_closed()
    assert process.returncode == 0


async def test_hangup_ends_nothing() -> None:
    process = await start("--etcd", NOWHERE, "--listen", "127.0.0.1:0")
    port = await listening_port(process)
    process.send_signal(signal.SIGHUP)
    await told(process, "hangup_ignored")
    async with await RawClient.connect(port) as client:
        assert (await client.ask("GET", "/healthz")).status == 200
    process.terminate()
    await process.communicate()
    assert process.returncode == 0


async def told(process: Process, event: str) -> None:
    """Wait until a process logs an event."""
    assert process.stderr is not None
    async with asyncio.timeout(PATIENT_S):
        while json.loads(await process.stderr.readline())["event"] != event:
            pass


async def test_metrics_tell_how_requests_were_answered() -> None:
    process = await start("--etcd", NOWHERE, "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
    metrics = await listening_port(process, "metrics_listening")
    async with await RawClient.connect(await listening_port(process)) as client:
        await client.ask("POST", GOOD)
        await client.ask("POST", GOOD)
        await client.ask("GET", "/healthz")
        await client.ask("DELETE", "/analytics")
        async with await RawClient.connect(metrics) as monitor:
            lines = (await monitor.ask("GET", "/metrics")).body.decode().splitlines()
    assert 'tally_http_requests_total{method="POST",status="503"} 2.0' in lines
    assert 'tally_http_requests_total{method="GET",status="200"} 1.0' in lines
    assert 'tally_http_requests_total{method="other",status="405"} 1.0' in lines
    assert "tally_http_connections 1.0" in lines
    assert "tally_events_set_aside_total 0.0" in lines
    assert "tally_log_lines_dropped_total 0.0" in lines
    process.terminate()
    await process.communicate()


async def test_log_level_says_what_is_logged() -> None:
    process = await start(
        "--etcd", NOWHERE, "--listen", "127.0.0.1:0", env={**os.environ, "TALLY_LOG_LEVEL": "warning"}
    )
    assert process.stderr is not None
    first = json.loads(await process.stderr.readline())
    assert (first["event"], first["level"]) == ("trouble_begun", "warning")
    process.terminate()
    await process.communicate()
    refused = await start("--etcd", NOWHERE, "--log-level", "loud")
    _, complaints = await refused.communicate()
    assert refused.returncode == 2
    assert b"'loud' is not one of 'debug', 'info', 'warning', 'error'" in complaints


async def test_taken_address_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        process = await start("--etcd", NOWHERE, "--listen", listen)
        _, complaint = await process.communicate()
    assert process.returncode == 1
    assert complaint.decode() == (
        f"tally-gateway: can't listen on {listen}: it is in use; end what listens there, "
        "or choose another --listen (TALLY_LISTEN)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        ([], 2, b"TALLY_ETCD"),
        (["--etcd", NOWHERE, "--deadline-s", "0"], 2, b"--deadline-s (TALLY_DEADLINE_S) is 0"),
        (["--etcd", "nonsense"], 2, b"nonsense"),
        (["--etcd", NOWHERE, "--cluster", "/"], 2, b"cluster"),
    ],
)
async def test_wrong_setting_is_named(arguments: list[str], status: int, named: bytes) -> None:
    process = await start(*arguments)
    _, complaint = await process.communicate()
    assert process.returncode == status
    assert named in complaint
    assert b"Traceback" not in complaint


async def test_request_under_way_is_answered_at_the_end(app: App, backend: MemoryBackend) -> None:
    http = HttpServer(app, header_timeout_s=PATIENT_S, idle_timeout_s=PATIENT_S, connections=10)
    listener = await asyncio.get_running_loop().create_server(http, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with await RawClient.connect(port) as busy, await RawClient.connect(port) as idle:
        backend.gate.clear()
        await busy.send(POST + b"\r\n")
        await until(lambda: backend.asked == 1)
        app.stop()
        listener.close()
        ending = asyncio.create_task(finish_requests(http, 5))
        assert await idle.is_closed()
        with pytest.raises(ConnectionRefusedError):
            await RawClient.connect(port)
        backend.gate.set()
        answer = await busy.answer()
        assert (answer.status, answer.headers["connection"]) == (204, "close")
        await ending


async def test_end_does_not_wait_for_ever(app: App, backend: MemoryBackend) -> None:
    http = HttpServer(app, header_timeout_s=PATIENT_S, idle_timeout_s=PATIENT_S, connections=10)
    listener = await asyncio.get_running_loop().create_server(http, "127.0.0.1", 0)
    async with await RawClient.connect(listener.sockets[0].getsockname()[1]) as client:
        backend.gate.clear()
        await client.send(POST + b"\r\n")
        await until(lambda: backend.asked == 1)
        listener.close()
        await asyncio.wait_for(finish_requests(http, 0.1), 2)
        assert await client.is_closed()
    backend.gate.set()
