"""``tally import`` as a process, against a server that takes note of what arrives."""

import asyncio
import gzip
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.support import commands

HEADER = b"timestamp_ms,user,kind\n"


class Gateway:
    """Answers as a gateway would: user ``bad`` is refused, ``busy`` has no shard, ``cut`` loses the connection."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.most_at_once = 0
        self._at_once = 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/healthz":
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
        return web.Response(status=204)

    async def run_import(self, *arguments: str, stdin: bytes = b"") -> commands.Finished:
        return await commands.tally("import", *arguments, "--to", self.url, stdin=stdin)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    double = Gateway()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", double.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    double.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield double
    await runner.cleanup()


async def test_every_row_arrives_once_and_unchanged(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    users = ["a+b", "a b", "é", "%41", 'q"q', "x&click", "~", "=", "#", "日本"]
    file.write_text('timestamp_ms,user,kind\n5,"q""q",click\n' + "".join(f"5,{u},click\n" for u in users if u != 'q"q'))
    done = await gateway.run_import(str(file))
    assert (done.status, done.out.split(" in ")[0]) == (0, "10 counted, 0 failed"), done.err
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
    assert done.out.startswith("2 counted, 4 failed")
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
    assert done.out.startswith("5 counted, 1 failed")
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


@pytest.mark.parametrize("to", ["127.0.0.1:8080", "ftp://host", "http://host?x"])
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


async def test_ctrl_c_ends_it_while_stdin_has_nothing_to_give(gateway: Gateway) -> None:
    process = await commands.begin("import", "-", "--to", gateway.url)
    assert process.stdin
    process.stdin.write(HEADER + b"5,ann,click\n")
    async with asyncio.timeout(20):
        while not gateway.queries:
            await asyncio.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 1
    await process.communicate()
