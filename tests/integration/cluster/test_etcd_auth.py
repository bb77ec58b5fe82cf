"""Getting in: users and passwords, and TLS."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tally.cluster.etcd import Etcd, EtcdSettings, Put
from tally.errors import ConfigError, EtcdRefused, EtcdUnavailable
from tests.support.etcd import EtcdServer
from tests.support.waiting import until

USER, PASSWORD = "tally", "correct horse"
ROOT = ("--user", "root:pw")


@pytest.fixture
def guarded() -> Iterator[EtcdServer]:
    """An etcd that lets ``USER`` at the keys below /tally/ and nobody else at any."""
    with EtcdServer() as server:
        server.control("user", "add", "root:pw")
        server.control("user", "grant-role", "root", "root")
        server.control("role", "add", "tally")
        server.control("role", "grant-permission", "tally", "--prefix=true", "readwrite", "/tally/")
        server.control("user", "add", f"{USER}:{PASSWORD}")
        server.control("user", "grant-role", USER, "tally")
        server.control("auth", "enable")
        yield server


@pytest.fixture
async def etcd(guarded: EtcdServer) -> AsyncIterator[Etcd]:
    connection = Etcd(EtcdSettings(endpoints=(guarded.endpoint,), user=USER, password=PASSWORD))
    yield connection
    await connection.close()


async def test_user_gets_in_and_again_when_its_token_is_taken_away(etcd: Etcd, guarded: EtcdServer) -> None:
    assert (await etcd.commit([], [Put("/tally/a", "")])).ok
    lease = await etcd.grant_lease(30)
    assert await etcd.keep_alive(lease) == 30
    assert await etcd.alarms() == ()

    def take_tokens_away() -> None:
        guarded.control(*ROOT, "auth", "disable")
        guarded.control("auth", "enable")

    take_tokens_away()
    assert (await etcd.commit([], [Put("/tally/a", "", lease)])).ok
    take_tokens_away()
    assert await etcd.read("/tally/a") is not None
    take_tokens_away()
    assert await etcd.keep_alive(lease) == 30
    await etcd.revoke(lease)
    assert await etcd.read("/tally/a") is None


async def test_user_gets_in_after_a_restart(etcd: Etcd, guarded: EtcdServer) -> None:
    assert (await etcd.commit([], [Put("/tally/a", "")])).ok
    await asyncio.to_thread(guarded.stop)
    await asyncio.to_thread(guarded.start)

    async def found() -> bool:
        try:
            return await etcd.read("/tally/a") is not None
        except EtcdUnavailable:
            return False

    await until(found)


async def test_wrong_password_and_none_are_refused(guarded: EtcdServer) -> None:
    for settings in (
        EtcdSettings(endpoints=(guarded.endpoint,), user=USER, password="wrong"),
        EtcdSettings(endpoints=(guarded.endpoint,)),
    ):
        etcd = Etcd(settings)
        with pytest.raises(EtcdRefused):
            await etcd.read("/tally/a")
        with pytest.raises(EtcdRefused):
            await etcd.commit([], [Put("/tally/a", "")])
        await etcd.close()


async def test_keys_of_others_are_refused(etcd: Etcd) -> None:
    with pytest.raises(EtcdRefused, match="permission denied"):
        await etcd.read("/other")


async def test_user_does_no_harm_where_none_is_needed(server: EtcdServer) -> None:
    etcd = Etcd(EtcdSettings(endpoints=(server.endpoint,), user=USER, password=PASSWORD))
    assert await etcd.read("/tally/none") is None
    assert await etcd.read("/tally/none") is None
    await etcd.close()


async def test_tls_lets_in_who_trusts_the_certificate_and_no_other() -> None:
    with EtcdServer(tls=True) as server:
        trusting = Etcd(EtcdSettings(endpoints=(server.endpoint,), ca_file=server.ca_file))
        assert (await trusting.commit([], [Put("/tally/a", "")])).ok
        assert await trusting.read("/tally/a") is not None
        await trusting.close()
        for endpoint in (server.endpoint, f"https://{server.endpoint}"):
            stranger = Etcd(EtcdSettings(endpoints=(endpoint,)), timeout_s=0.5)
            with pytest.raises(EtcdUnavailable):
                await stranger.read("/tally/a")
            await stranger.close()


async def test_certificate_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no-such\.pem"):
        Etcd(EtcdSettings(endpoints=("a:1",), ca_file=Path("no-such.pem")))


async def test_certificates_that_are_renewed_on_disk_are_used_by_the_next_connection(tmp_path: Path) -> None:
    trusted = tmp_path / "trusted.pem"
    with EtcdServer(tls=True) as server:
        shutil.copy(server.ca_file, trusted)
        connection = Etcd(EtcdSettings(endpoints=(server.endpoint,), ca_file=trusted))
        try:
            assert (await connection.commit([], [Put("/tally/a", "")])).ok
            server.stop()
            shutil.rmtree(server.ca_file.parent)  # It makes itself another one.
            server.start()
            with pytest.raises(EtcdUnavailable, match="TLS failed: certificate verify failed"):
                await connection.read("/tally/a")
            with pytest.raises(EtcdUnavailable, match="TLS failed: certificate verify failed"):
                await connection.commit([], [Put("/tally/b", "")])
            trusted.unlink()  # Somebody is at it.
            with pytest.raises(EtcdUnavailable):
                await connection.read("/tally/a")
            shutil.copy(server.ca_file, trusted)
            assert await connection.read("/tally/a") is not None
        finally:
            await connection.close()


async def test_certificates_that_are_renewed_are_used_while_the_old_ones_still_hold(tmp_path: Path) -> None:
    trusted = tmp_path / "trusted.pem"
    with EtcdServer(tls=True) as server:
        shutil.copy(server.ca_file, trusted)
        connection = Etcd(EtcdSettings(endpoints=(server.endpoint,), ca_file=trusted))
        try:
            assert (await connection.commit([], [Put("/tally/a", "")])).ok
            trusted.write_text("renewed, but wrongly")
            with pytest.raises(EtcdUnavailable):
                await connection.read("/tally/a")
        finally:
            await connection.close()
