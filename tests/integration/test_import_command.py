"""``tally import`` as a process, against a server that takes note of what arrives."""

import asyncio
import gzip
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tally.command.importer import door
from tally.command.importer.rows import Row
from tally.command.importer.sending import Outcome, send_all
from tally.command.importer.source import Batch
from tests.support import commands
from tests.support.waiting import until

HEADER = b"timestamp_ms,user,kind\n"


class Gateway:
    """Answers as a gateway would: user ``bad`` is refused, ``busy`` has no shard, ``cut`` loses the connection."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.most_at_once = 0
        self._at_once = 0
        self.url = ""
        self.is_one = True
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> None:
        app = web.Application()
        app.router.add_route("*", "/{any:.*}", self.answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    async def has(self, queries: int) -> None:
        """Wait until so many events have arrived."""
        await until(lambda: len(self.queries) >= queries, within_s=20)

    async def answer(self, request: web.Request) -> web.Response:
        if not self.is_one:
            return web.Response(status=404)
        if request.path in {"/healthz", "/readyz"}:
            return web.Response()
        assert (request.method, request.path) == ("POST", "/analytics")
        self.queries.append(request.raw_path.partition("?")[2])
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(0)
        self._at_once -= 1
        match request.query["user"]:
            case "bad":
                return web.json_response({"detail": "user must not be bad"}, status=400)
            case "busy":
                return web.json_response({"detail": "no primary"}, status=503)
            case "cut":
                assert request.transport
                request.transport.abort()
            case "slow":
                await asyncio.sleep(1)
            case "silent":
                await asyncio.sleep(60)
        return web.Response(status=204)

    async def run_import(self, *arguments: str, stdin: bytes = b"") -> commands.Finished:
        return await commands.tally("import", *arguments, "--to", self.url, stdin=stdin)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    double = Gateway()
    await double.start()
    yield double
    await double.stop()


async def test_every_row_arrives_once_and_unchanged(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    users = ["a+b", "a b", "é", "%41", 'q"q', "x&click", "~", "=", "#", "日本"]
    file.write_text('timestamp_ms,user,kind\n5,"q""q",click\n' + "".join(f"5,{u},click\n" for u in users if u != 'q"q'))
    done = await gateway.run_import(str(file))
    assert (done.status, done.out.split(" in ")[0]) == (0, "10 counted, 0 refused, 0 unknown"), done.err
    assert sorted(gateway.queries) == sorted(
        f"timestamp=5&user={user}&click"
        for user in (
            *("a%2Bb", "a%20b", "%C3%A9", "%2541", "q%22q", "x%26click", "~", "%3D", "%23"),
            "%E6%97%A5%E6%9C%AC",
        )
    )


async def test_refused_rows_are_told_by_line_and_the_others_go_on(gateway: Gateway) -> None:
    rows = HEADER + b"5,ann,click\n5,bad,click\n\n5,ann,view\n5,busy,click\n5,cut,click\n5,ann,click\n"
    done = await gateway.run_import("-", stdin=rows)
    assert done.status == 1
    assert done.out.startswith("2 counted, 2 refused, 2 unknown")
    lines = dict(line.split(": ", 1) for line in done.err.splitlines() if line.startswith("line"))
    assert lines.pop("line 7").startswith("not acknowledged: ")
    assert lines == {
        "line 3": "user must not be bad",
        "line 5": "kind must be click or impression",
        "line 6": "not acknowledged: 503, no primary",
    }
    assert len(gateway.queries) == 5, "what failed must not be sent again"


async def test_gzip_is_recognised_on_stdin(gateway: Gateway) -> None:
    line = b'{"timestamp_ms": 5, "user": "ann", "kind": "impression"}\n'
    done = await gateway.run_import("-", stdin=gzip.compress(line * 3))
    assert (done.status, len(gateway.queries)) == (0, 3), done.err


async def test_gzip_that_is_cut_off_counts_what_is_there_and_fails(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "events.csv.gz"
    file.write_bytes(gzip.compress(HEADER + b"5,ann,click\n" * 5)[:-6])
    done = await gateway.run_import(str(file))
    assert done.status == 1
    assert done.out.startswith("5 counted, 1 refused, 0 unknown")
    assert "line 7: the gzip data is damaged from here on" in done.err


async def test_no_more_connections_than_asked_for(gateway: Gateway) -> None:
    done = await gateway.run_import("-", "--connections", "3", stdin=HEADER + b"5,ann,click\n" * 3000)
    assert (done.status, len(gateway.queries)) == (0, 3000), done.err
    assert 1 <= gateway.most_at_once <= 3


async def test_without_its_columns_nothing_is_sent(gateway: Gateway) -> None:
    done = await gateway.run_import("-", stdin=b"time,user,kind\n5,ann,click\n")
    assert done.status == 2
    assert "timestamp_ms, user, kind" in done.err
    assert gateway.queries == []


async def test_a_file_that_is_not_there_is_wrong_use(gateway: Gateway, tmp_path: Path) -> None:
    done = await gateway.run_import(str(tmp_path / "none.csv"))
    assert done.status == 2
    assert "none.csv" in done.err


@pytest.mark.parametrize("to", ["127.0.0.1:8080", "ftp://host", "http://host?x", "http://host/analytics"])
async def test_what_is_no_address_of_a_gateway_is_wrong_use(to: str) -> None:
    done = await commands.tally("import", "-", "--to", to)
    assert done.status == 2
    assert "--to" in done.err


async def test_no_gateway_is_one_line_and_not_one_a_row() -> None:
    done = await commands.tally("import", "-", "--to", "http://127.0.0.1:1", stdin=HEADER + b"5,ann,click\n" * 9)
    assert done.status == 1
    assert done.err == (
        "Error: no gateway answers at http://127.0.0.1:1 (Connection refused); "
        "start one with `tally up`, or say where with --to\n"
    )


async def test_what_is_no_gateway_is_told_before_anything_is_sent(gateway: Gateway) -> None:
    gateway.is_one = False
    done = await gateway.run_import("-", stdin=HEADER + b"5,ann,click\n")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"Error: no gateway answers at {gateway.url} (GET /healthz gave 404)")
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_what_does_not_speak_http_is_told_once(scheme: str) -> None:
    def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        to = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        done = await commands.tally("import", "-", "--to", to, stdin=HEADER + b"5,ann,click\n")
    assert done.status == 1
    assert done.err.startswith(f"Error: no gateway answers at {to} (")
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(("what", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_stops_it_with_its_summary_though_stdin_is_open(
    gateway: Gateway, what: signal.Signals, status: int
) -> None:
    process = await commands.begin("import", "-", "--to", gateway.url)
    assert process.stdin
    process.stdin.write(HEADER + b"5,ann,click\n5,slow,click\n")
    await gateway.has(2)
    process.send_signal(what)
    async with asyncio.timeout(20):
        assert await process.wait() == status
    out, err = await process.communicate()
    assert out.startswith(b"2 counted, 0 refused, 0 unknown"), "the answer under way is waited for"
    assert f"stopped ({what.name}): nothing was sent from line 4 on" in out.decode()
    assert err == b""


async def test_a_signal_does_not_wait_for_ever_for_an_answer(gateway: Gateway) -> None:
    process = await commands.begin("import", "-", "--to", gateway.url, "--connections", "1")
    assert process.stdin
    process.stdin.write(HEADER + b"5,silent,click\n5,ann,click\n")
    await gateway.has(1)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(10):
        assert await process.wait() == 130
    out, err = await process.communicate()
    assert out.startswith(b"0 counted, 0 refused, 1 unknown")
    assert b"nothing was sent from line 3 on" in out
    assert err == b"line 2: not acknowledged: not waited for its answer\n"


async def test_a_gateway_that_is_started_again_is_waited_for(gateway: Gateway) -> None:
    process = await commands.begin("import", "-", "--to", gateway.url, "--connections", "2")
    assert process.stdin
    process.stdin.write(HEADER + b"5,ann,click\n")
    await gateway.has(1)
    await gateway.stop()
    process.stdin.write(b"5,bob,click\n" * 50)
    assert process.stderr
    async with asyncio.timeout(20):
        said = (await process.stderr.readline()).decode()
    assert said == "can't connect to the gateway (Connection refused); waiting up to 30 s for it\n"
    await gateway.start(gateway.port)
    done = await commands.finish(process)
    assert (done.status, done.err) == (0, "the gateway is back\n")
    assert done.out.startswith("51 counted, 0 refused, 0 unknown")
    assert len(gateway.queries) == 51


async def test_a_gateway_that_does_not_come_back_ends_it_and_the_summary_says_what_was_not_sent(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "BACK_S_MAX", 0.5)
    told: list[str] = []

    class Listener:
        def say(self, text: str) -> None:
            told.append(text)

        def complain(self, line: int, reason: str) -> None:
            told.append(f"line {line}: {reason}")

        def advance(self, position: int, outcome: Outcome) -> None:
            """Nothing to tell."""

    async def batches() -> AsyncIterator[Batch]:
        yield Batch(0, [Row(2, "timestamp=5&user=ann&click")])
        await gateway.has(1)
        await gateway.stop()
        yield Batch(0, [Row(line, "timestamp=5&user=ann&click") for line in range(3, 100)])

    outcome = await send_all(batches(), gateway.url, 2, Listener())
    assert (outcome.counted, outcome.refused, outcome.unknown, outcome.skipped) == (1, 0, 0, 0)
    assert outcome.unsent_from == 3
    assert "did not come back" in outcome.halted
    assert len(told) == 1, told


async def test_closed_stdin_is_one_line(gateway: Gateway) -> None:
    done = await shell('"$@" <&-', "import", "-", "--to", gateway.url)
    assert (done.status, done.err) == (1, "Error: stdin can't be used: it is closed\n")


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
async def test_a_stdout_that_takes_nothing_is_one_line(gateway: Gateway, tmp_path: Path, redirection: str) -> None:
    file = tmp_path / "events.csv"
    file.write_bytes(HEADER + b"5,ann,click\n")
    done = await shell(f'"$@" {redirection}', "import", str(file), "--to", gateway.url)
    assert done.status == 1
    assert "Error: stdout can't be used" in done.err
    assert "Traceback" not in done.err
    assert "ignored" not in done.err


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
async def test_a_stderr_that_takes_nothing_fails(gateway: Gateway, tmp_path: Path, redirection: str) -> None:
    file = tmp_path / "events.csv"
    file.write_bytes(HEADER + b"5,ann,click\n5,bad,click\n")
    done = await shell(f'"$@" {redirection}', "import", str(file), "--to", gateway.url)
    assert done.status == 1
    assert "Traceback" not in done.out


async def shell(script: str, *arguments: str) -> commands.Finished:
    """Run ``tally`` from a shell script that has it as ``"$@"``."""
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", script, "sh", sys.executable, "-m", "tally", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=commands.environment(),
    )
    return await commands.finish(process)
