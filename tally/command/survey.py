"""What etcd says of the cluster and what its shards say of themselves, fit to be compared."""

from tally.cluster.etcd import Etcd
from tally.cluster.keys import Keys
from tally.command.cluster import Seen, look
from tally.command.report import outdated
from tally.command.shards import STATUS_TIMEOUT_S, Answers, ask_shards


async def survey(etcd: Etcd, keys: Keys, timeout_s: float = STATUS_TIMEOUT_S) -> tuple[Seen, Answers]:
    """Read etcd, ask all members, and read etcd again if they know newer rows: those may be there by now.

    Rows change all the time while copies move. What is older than the answers even then, etcd has lost.

    Raises:
        ClusterMissing, BadClusterData: See ``look``.
    """
    seen = await look(etcd, keys)
    answers = await ask_shards(seen.state, timeout_s=timeout_s)
    if outdated(seen.state.map, answers, seen.state.config.shape.slots):
        seen = await look(etcd, keys)
    return seen, answers
