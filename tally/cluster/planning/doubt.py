"""What becomes of a doubted removal: one for silence, by a primary whose own disk may be the one that lost something.

The controller has looked at the member, by a call that began after the request came:

| the member | it is |
|---|---|
| answers, and has the copy, with a head above the primary's | promoted instead: the primary lost what it has |
| answers, and has the copy, with a head that is not above | removed: it has nothing that the primary lacks |
| answers, without the copy | removed |
| does not answer, and has no alive key | removed: it is dead |
| does not answer, and did not for ``SILENT_S`` while most others did | removed |
| does not answer | kept |

A connection that is refused is no answer either, but nothing more: a process that starts refuses for a while.

Pure.
"""

from collections.abc import Collection

from tally.cluster.planning.health import ShardHealth
from tally.cluster.rows import Change, Request


def judged(
    request: Request, look: ShardHealth | None, *, alive: Collection[str], unreachable: Collection[str]
) -> Request | str:
    """Return what to execute instead of a doubted request, or why nothing is.

    Args:
        request: A removal, with the head of the primary that asks.
        look: What the member answered; None for nothing.
        alive: Who has an alive key, read after the look.
        unreachable: Who gave no answer for long, of those with an alive key.
    """
    assert request.change is Change.REMOVE
    assert request.head is not None
    if look is None:
        if request.shard in alive and request.shard not in unreachable:
            return f"{request.shard} may have what the primary lost, and gave no answer"
        return request
    copy = look.copies.get(request.slot)
    if copy is None or not copy.complete or copy.incarnation != request.incarnation:
        return request
    return request._replace(change=Change.PROMOTE) if copy.head.order > request.head.order else request
