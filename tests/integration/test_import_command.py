"""``tally import`` as a process, against a server that takes note of what arrives."""

import asyncio
import gzip
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web
from xxhash import xxh3_128_hexdigest

from gateway.problems import problem
from tally.command.importer.keys import key_of_line
from tally.command.importer.retrying import Patience
from tally.command.importer.rows import Row
from tally.command.importer.sending import Outcome, Sending
from tally.command.importer.source import Batch
from tally.event import KEY_HEADER
from tests.support import commands
from tests.support.waiting import until

HEADER = b"timestamp_ms,user,kind\n"


# Users whose first attempts are answered with nothing definite.
TROUBLE: Final[Mapping[str, Callable[[], web.Response]]] = {
    "busy": lambda: web.json_response({"detail": "no primary"}, status=503, headers={"Retry-After": "0"}),
    "many": lambda: web.Response(status=429),
    "no-backend": lambda: web.Response(status=404, text="404 page not found"),
    "no-route": lambda: web.json_response({"detail": "no route"}, status=400),
    "broken": lambda: web.Response(status=500),
    "strange": lambda: web.Response(status=302, headers={"Location": "/"}),
}


class Gateway:
    """Answers as a gateway would: user ``bad`` is refused, ``cut`` loses the connection at first.

    Attributes:
        queries: What arrived, each attempt.
        keys: How many attempts each key had.
        trouble: How many attempts of a user in ``TROUBLE``, and of ``cut``, have no definite answer.
    """

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.keys: Counter[str] = Counter()
        self.trouble = 1
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
        key = request.headers[KEY_HEADER]
        self.keys[key] += 1
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(0)
        self._at_once -= 1
        return await self._answer_event(request, request.query["user"], self.keys[key])

    async def _answer_event(self, request: web.Request, user: str, attempts: int) -> web.Response:
        if attempts <= self.trouble and user in TROUBLE:
            return TROUBLE[user]()
        match user:
            case "bad":
                refusal = problem(HTTPStatus.BAD_REQUEST, "user must not be bad")
                return web.Response(status=400, headers=dict(refusal.headers), body=refusal.body)
            case "cut" if attempts <= self.trouble:
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
    rows = HEADER + b"5,ann,click\n5,bad,click\n\n5,ann,view\n5,ann,click\n"
    done = await gateway.run_import("-", stdin=rows)
    assert done.status == 1
    assert done.out.startswith("2 counted, 2 refused, 0 unknown")
    assert dict(line.split(": ", 1) for line in done.err.splitlines()) == {
        "line 3": "user must not be bad",
        "line 5": "kind must be click or impression",
    }
    assert len(gateway.queries) == 3, "what was refused must not be sent again"


async def test_every_row_is_sent_with_its_key_until_its_answer_is_definite(gateway: Gateway, tmp_path: Path) -> None:
    file, gateway.trouble = tmp_path / "events.csv", 3
    users = ["cut", *TROUBLE]
    file.write_bytes(HEADER + b"".join(b"5,%s,click\n" % user.encode() for user in users))
    done = await gateway.run_import(str(file))
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("7 counted, 0 refused, 0 unknown")
    prefix = xxh3_128_hexdigest(file.read_bytes())
    assert gateway.keys == {key_of_line(prefix, line): 4 for line in range(2, 9)}
    assert Counter(gateway.queries) == {f"timestamp=5&user={user}&click": 4 for user in users}


async def test_a_file_has_the_same_keys_each_time_and_packed_or_changed_others(
    gateway: Gateway, tmp_path: Path
) -> None:
    file, rows = tmp_path / "events", HEADER + b"5,ann,click\n5,bob,click\n"
    for content, keys in ((rows, 2), (rows, 2), (gzip.compress(rows), 4), (rows + b"\n", 6)):
        file.write_bytes(content)
        done = await gateway.run_import(str(file))
        assert (done.status, len(gateway.keys)) == (0, keys), done


async def test_the_same_pipe_is_known_again_only_by_its_name(gateway: Gateway) -> None:
    rows = HEADER + b"5,ann,click\n5,bob,click\n"
    for name, keys in (("", 2), ("", 4), ("july", 6), ("july", 6), ("august", 8)):
        named = ("--key-prefix", name) if name else ()
        done = await gateway.run_import("-", *named, stdin=rows)
        assert (done.status, len(gateway.keys)) == (0, keys), done
    assert gateway.keys["july-2"] == gateway.keys["july-3"] == 2


async def test_a_named_pipe_is_read_once(gateway: Gateway, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done, _ = await asyncio.gather(
        gateway.run_import(str(pipe)), asyncio.to_thread(pipe.write_bytes, HEADER + b"5,ann,click\n")
    )
    assert (done.status, len(gateway.keys)) == (0, 1), done


@pytest.mark.parametrize("name", ["", "a b", "é", "x" * 81])
async def test_what_is_no_key_prefix_is_wrong_use(name: str) -> None:
    done = await commands.tally("import", "-", "--key-prefix", name)
    assert done.status == 2
    assert "--key-prefix" in done.err


@pytest.mark.parametrize("change", ["one byte", "longer", "shorter"])
async def test_a_file_that_changes_while_it_is_imported_is_told(gateway: Gateway, tmp_path: Path, change: str) -> None:
    """Rather too much is counted again than a line of another file taken for one of this."""
    file = tmp_path / "events.csv"
    rows = HEADER + b"5,slow,click\n" + b"5,ann,click\n" * 2000
    file.write_bytes(rows)
    process = await commands.begin("import", str(file), "--to", gateway.url, "--connections", "1")
    await gateway.has(1)  # The rest waits for this answer: hardly more than what is read at once was read.
    with file.open("r+b") as held:
        match change:
            case "one byte":
                os.pwrite(held.fileno(), b"6", len(rows) - len(b"5,ann,click\n"))
            case "longer":
                os.pwrite(held.fileno(), b"5,ann,cl", len(rows))
            case "shorter":
                held.truncate(len(rows) - 50 * len(b"5,ann,click\n"))
    done = await commands.finish(process)
    prefix = xxh3_128_hexdigest(rows)
    assert done.status == 1
    assert "the file changed meanwhile: imported again it is another one" in done.out
    assert f"with --key-prefix {prefix} within 24 hours" in done.out
    assert done.err.count("line 5") == 0, "a line that was written only in part is no row"
    assert done.out.startswith("1,951 counted" if change == "shorter" else "2,001 counted")
    again = await gateway.run_import(str(file), "--key-prefix", prefix)
    assert again.status == (1 if change == "longer" else 0)
    changed = {"one byte": 0, "longer": 1, "shorter": 0}[change]
    assert sum(times == 1 for times in gateway.keys.values()) <= changed, "all others were recognised"


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
    assert f"stopped ({what.name}): nothing was sent from line 4 on\nthe same lines with --key-prefix" in out.decode()
    assert err == b""


async def test_a_signal_does_not_wait_for_ever_for_an_answer(gateway: Gateway) -> None:
    process = await commands.begin("import", "-", "--to", gateway.url, "--connections", "1")
    assert process.stdin
    process.stdin.write(HEADER + b"5,silent,click\n5,ann,click\n")
    await gateway.has(1)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(30):
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
    assert said == "nothing is counted at the moment (Connection refused); sending again, for up to 600 s\n"
    await gateway.start(gateway.port)
    done = await commands.finish(process)
    assert (done.status, done.err) == (0, "counting again\n")
    assert done.out.startswith("51 counted, 0 refused, 0 unknown")
    assert len(gateway.keys) == 51


class Told:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def complain(self, line: int, reason: str) -> None:
        self.lines.append(f"line {line}: {reason}")

    def advance(self, position: int, outcome: Outcome) -> None:
        """Nothing to tell."""


async def test_a_gateway_that_does_not_come_back_ends_it_and_what_is_unknown_and_what_was_not_sent_is_told(
    gateway: Gateway,
) -> None:
    async def batches() -> AsyncIterator[Batch]:
        yield Batch(0, [Row(2, "timestamp=5&user=ann&click")])
        await gateway.has(1)
        await gateway.stop()
        yield Batch(0, [Row(line, "timestamp=5&user=ann&click") for line in range(3, 100)])

    told, patience = Told(), Patience(0.5)
    outcome = await Sending(gateway.url, str, told, connections=2, patience=patience).run(batches())
    assert (outcome.counted, outcome.refused, outcome.unknown, outcome.sent_again) == (1, 0, 2, 0)
    assert outcome.unsent_from == 5
    assert outcome.halted == "no answer for too long: Connection refused"
    assert sorted(told.lines) == [f"line {line}: not acknowledged: Connection refused" for line in (3, 4)]


async def test_one_line_without_an_answer_holds_up_no_other_and_ends_it_at_last(gateway: Gateway) -> None:
    gateway.trouble = 1_000_000
    rows = HEADER + b"5,busy,click\n" + b"5,ann,click\n" * 50
    done = await gateway.run_import("-", "--connections", "2", "--give-up-after", "2", stdin=rows)
    assert done.status == 1
    assert done.out.startswith("50 counted, 0 refused, 1 unknown")
    assert "stopped (no answer for too long: 503, no primary), but all was sent" in done.out
    assert "the same lines with --key-prefix" in done.out
    assert done.err.splitlines() == [
        "nothing is counted at the moment (503, no primary); sending again, for up to 2 s",
        "line 2: not acknowledged: 503, no primary",
    ]
    assert gateway.keys.most_common(1)[0][1] >= 3


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
        *("sh", "-c", script, "sh", sys.executable, "-P", "-m", "tally", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=commands.environment(),
    )
    return await commands.finish(process)
