"""``--metrics``: what a monitor can ask a running process, and that nobody is in anybody's way there."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tally.address import Address
from tally.errors import AddressTaken
from tally.monitor.door import CONNECTIONS_MAX, REQUEST_BYTES_MAX, MetricsDoor
from tests.support.cluster import Cluster
from tests.support.etcd import free_ports
from tests.support.raw_http import RawClient
from tests.support.waiting import until

HERE = Address("127.0.0.1", 0)


async def figures(address: str) -> dict[str, float]:
    """Return what a process tells, by name."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}/metrics") as answer:
        assert answer.status == 200
        text = await answer.text()
    return {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}


async def test_shard_tells_of_its_slots_while_copies_go_and_come_back(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    metrics = f"127.0.0.1:{port}"
    env = {"s1": {"TALLY_METRICS": metrics}}
    async with Cluster(tmp_path, shards=2, slots=8, spread=2, copies=2, lease_s=2, env=env) as cluster:

        async def has(**wanted: float) -> bool:
            told = await figures(metrics)
            return all(told[f"tally_{name}"] == value for name, value in wanted.items())

        await until(lambda: has(slots_primary=4, slots_serving=4, copies_missing=0))
        told = await figures(metrics)
        assert told["process_open_fds"] > 0
        assert 0 < told["tally_disk_used_ratio"] < 1
        assert told["tally_event_loop_lag_seconds_count"] > 0
        before = told["tally_slot_seconds_on_single_copy_total"]
        cluster.kill("s2")
        await until(lambda: has(slots_primary=8, slots_serving=8, copies_missing=8), within_s=20)
        cluster.restart("s2")
        await until(lambda: has(copies_missing=0), within_s=30)
        after = (await figures(metrics))["tally_slot_seconds_on_single_copy_total"]
        assert after > before
        (s1, s2) = (await cluster.status())["shards"]
        assert s1["redundancy"]["single_copy_s"] >= after
        assert s2["redundancy"]["clones"] + s2["redundancy"]["catch_ups"] >= 8


async def test_door_sends_away_who_comes_when_all_places_are_taken_and_serves_again_after_that() -> None:
    door = MetricsDoor(lambda: b"up 1\n", "text/plain")
    port = (await door.listen(HERE)).port
    try:
        idle = [await RawClient.connect(port) for _ in range(CONNECTIONS_MAX)]
        await until(lambda: door.open == CONNECTIONS_MAX)
        async with await RawClient.connect(port) as late:
            assert await late.is_closed()
        idle.pop().abort()
        await until(lambda: door.open == CONNECTIONS_MAX - 1)
        async with await RawClient.connect(port) as client:
            answer = await client.ask("GET", "/metrics")
            assert (answer.status, answer.body) == (200, b"up 1\n")
            assert await client.is_closed()
        for one in idle:
            one.abort()
    finally:
        await door.close()


async def test_request_that_does_not_end_is_dropped() -> None:
    door = MetricsDoor(lambda: b"up 1\n", "text/plain", request_s=0.2)
    port = (await door.listen(HERE)).port
    try:
        async with await RawClient.connect(port) as client:
            await client.send(b"GET /metrics HTTP/1.1\r\n")
            assert await client.is_closed()
        async with await RawClient.connect(port) as client:
            await client.send(b"GET /" + b"x" * REQUEST_BYTES_MAX * 2)
            assert await client.is_closed()
    finally:
        await door.close()


async def test_closed_door_drops_who_is_there() -> None:
    door = MetricsDoor(lambda: b"up 1\n", "text/plain")
    async with await RawClient.connect((await door.listen(HERE)).port) as client:
        await until(lambda: door.open == 1)
        async with asyncio.timeout(5):
            await door.close()
        assert await client.is_closed()


async def test_taken_address_is_named_with_its_option() -> None:
    door = MetricsDoor(lambda: b"", "text/plain")
    address = await door.listen(HERE)
    try:
        with pytest.raises(AddressTaken, match=r"in use; .* choose another --metrics \(TALLY_METRICS\)"):
            await MetricsDoor(lambda: b"", "text/plain").listen(address)
    finally:
        await door.close()


async def test_all_who_know_the_cluster_tell_that_two_of_three_shards_were_killed(tmp_path: Path) -> None:
    ports = free_ports(4)
    where = {name: f"127.0.0.1:{port}" for name, port in zip(("s1", "s2", "s3", "gateway"), ports, strict=True)}
    env = {name: {"TALLY_METRICS": address} for name, address in where.items()}
    async with Cluster(tmp_path, slots=12, spread=3, copies=3, lease_s=2, env=env) as cluster:

        async def told(name: str) -> dict[str, float]:
            found = await figures(where[name])
            start = "tally_cluster_"
            return {key.removeprefix(start): value for key, value in found.items() if key.startswith(start)}

        async def agree(*names: str, **wanted: int) -> bool:
            return all([(await told(name)).items() >= wanted.items() for name in names])

        controller = (await cluster.status())["controller"]
        well = {"slots": 12, "slots_unserved": 0, "slots_unwritable": 0, "copies_wanted": 36, "copies_missing": 0}
        await until(lambda: agree("gateway", controller, **well))
        victims = [name for name in cluster.shards if name != controller]
        assert await told(victims[0]) == {}, "the controller tells it"
        for name in victims:
            cluster.kill(name)
        await until(lambda: agree("gateway", controller, copies_missing=24, slots_unwritable=12), within_s=20)
        assert (await told("gateway"))["slots_unserved"] >= 6
        found = await cluster.status()
        assert (found["copies_missing"], found["all_serve"], found["not_writable"]) == (24, False, list(range(12)))
        for name in victims:
            cluster.restart(name)
        await until(lambda: agree("gateway", controller, **well), within_s=60)
