"""Clusters for tests, as values, and strategies that draw them."""

from collections.abc import Mapping

from hypothesis import strategies as st

from tally.cluster.config import ClusterConfig
from tally.cluster.members import Member, Wanted
from tally.cluster.planning.placement import first_map
from tally.cluster.secret import ClusterSecret
from tally.cluster.slot_map import SlotMap, SlotRow
from tally.cluster.state import ClusterState, KeyValue
from tally.hashing import Shape

UUID = "0123456789abcdef" * 2
SECRET = ClusterSecret("5ec7e7" * 10 + "0123")
PROCESS = "00" * 8  # In the alive key of every shard.
SMALL = Shape(slots=8, spreads=((0, 4),), hours_together=24)


def config(*, uuid: str = UUID, shape: Shape = SMALL, first_shards: int = 3, copies: int = 1) -> ClusterConfig:
    """Return a config; a small one, so that its maps can be read."""
    return ClusterConfig(uuid=uuid, shape=shape, copies=copies, min_copies=min(2, copies), first_shards=first_shards)


def member(number: int, *, wanted: Wanted = Wanted.ACTIVE) -> Member:
    """Return the member that shard ``s{number}`` would be."""
    return Member(f"127.0.0.1:{7000 + number}", f"127.0.0.1:{7100 + number}", f"{number:032x}", wanted)


def members(count: int) -> dict[str, Member]:
    """Return the members s0, s1 ... of a cluster."""
    return {f"s{number}": member(number) for number in range(count)}


def state(
    *,
    of: Mapping[str, Member] | None = None,
    alive: tuple[str, ...] | None = None,
    mapped: bool = False,
    map_revision: int = 7,
    conf: ClusterConfig | None = None,
) -> ClusterState:
    """Return a state: three members, all of them alive, without a map unless ``mapped``."""
    present = members(3) if of is None else of
    fixed = conf or config()
    return ClusterState(
        config=fixed,
        members=present,
        alive=dict.fromkeys(present if alive is None else alive, PROCESS),
        map=first_map(fixed.shape.slots, present) if mapped else None,
        map_revision=map_revision if mapped else 0,
        secret=SECRET,
    )


def key_value(key: str, value: str | bytes, *, mod: int = 1, create: int = 1) -> KeyValue:
    """Return a key as etcd gives it."""
    return KeyValue(key, value.encode() if isinstance(value, str) else value, mod, create)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Draw a shape with one to three spreads."""
    slots = draw(st.integers(1, 512))
    starts = [0, *sorted(draw(st.sets(st.integers(1, 3_000_000), max_size=2)))]
    spreads = tuple((start, draw(st.integers(1, slots))) for start in starts)
    return Shape(slots, spreads, draw(st.integers(1, 24 * 366)))


@st.composite
def slot_maps(draw: st.DrawFn) -> SlotMap:
    """Draw a map that the rules allow, of 1 to 8 slots."""
    shards = st.sampled_from([f"s{number}" for number in range(5)])

    def row() -> SlotRow:
        in_sync = draw(st.dictionaries(shards, st.text("0123456789abcdef", min_size=32, max_size=32), min_size=1))
        return SlotRow(draw(st.integers(1, 10**9)), draw(st.sampled_from(sorted(in_sync))), in_sync)

    return SlotMap(tuple(row() for _ in range(draw(st.integers(1, 8)))))
