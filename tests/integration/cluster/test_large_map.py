"""A map that is too large for etcd in its plain form grows there all the same."""

from tally.cluster.etcd import Etcd, ModRevision, Put
from tally.cluster.keys import Keys
from tally.cluster.reader import ClusterReader
from tally.hashing import Shape
from tests.support.cluster_values import SECRET, config, members
from tests.unit.tally.cluster.test_map_text import large_map


async def test_cluster_grows_into_the_packed_form(etcd: Etcd, keys: Keys) -> None:
    slots, seen = 4096, []
    of = config(copies=5, shape=Shape(slots=slots))
    shards = [Put(keys.member(name), one.to_json()) for name, one in members(3).items()]
    await etcd.commit([], [Put(keys.config, of.to_json()), Put(keys.secret, SECRET.to_json()), *shards])
    reader = ClusterReader(etcd, keys)
    revision = 0
    for copies in (1, 2, 5, 6):
        slot_map = large_map(slots, copies, joining=1)
        written = await etcd.commit([ModRevision(keys.map, revision)], [Put(keys.map, slot_map.to_json())])
        assert written.ok
        revision = written.revision
        found = (await reader.refresh()).map
        assert found == slot_map
        stored = await etcd.read(keys.map)
        assert stored is not None
        seen.append(stored.value[:12])
    assert seen == [b'{"format": 1', b'{"format": 2', b'{"format": 2', b'{"format": 2']
