"""The texts of a map: as plain as can be, and with a table of shards where that would be too large for etcd. Pure.

Both have one line a slot. In the packed form, shards are numbers, their places in the table, and what each row says is
named by a letter. What a row says beyond these names is passed on as it is.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tally.errors import BadClusterData, MapTooLarge

PLAIN: Final = 1
PACKED: Final = 2
PLAIN_BYTES_MAX: Final = 1_400_000
PACKED_BYTES_MAX: Final = 1_500_000
"""etcd takes 1,572,864 bytes in one request, and beside the map there may be a key for each of many shards."""

_SHORT: Final = {"epoch": "e", "primary": "p", "in_sync": "c", "min_copies": "m", "joining": "j"}
_LONG: Final = {short: long for long, short in _SHORT.items()}

Row = Mapping[str, Any]
"""A row as it stands in the plain form: slot, epoch, primary, in_sync, min_copies, joining, and what may be added."""


def text_of(rows: Sequence[Row], plain_bytes_max: int = PLAIN_BYTES_MAX) -> str:
    """Return the text of a map: the plain one if it has at most so many bytes.

    Raises:
        MapTooLarge: etcd takes neither.
    """
    text = _lines({"format": PLAIN}, [json.dumps(row) for row in rows])
    if len(text) <= plain_bytes_max:  # Bytes too, for all is ASCII.
        return text
    text = _packed(rows)
    if len(text) > PACKED_BYTES_MAX:
        raise MapTooLarge(len(text), PACKED_BYTES_MAX)
    return text


def rows_of(value: Mapping[str, Any], key: str) -> list[Row]:
    """Return the rows of a text that was parsed, in the plain form.

    Raises:
        BadClusterData: It has another format; the error names ``key``.
        KeyError, TypeError, ValueError, AttributeError, IndexError: It is not of the form that it says.
    """
    match value.get("format"):
        case 1:  # PLAIN
            return list(value["slots"])
        case 2:  # PACKED
            return _unpacked(value)
        case other:
            raise BadClusterData(key, f"format {other!r}; this version knows formats {PLAIN} and {PACKED}")


def _lines(head: Mapping[str, Any], rows: Sequence[str]) -> str:
    return f'{json.dumps(head)[:-1]}, "slots": [\n' + ",\n".join(rows) + "\n]}"


def _packed(rows: Sequence[Row]) -> str:
    shards = sorted({shard for row in rows for shard in (row["primary"], *row["in_sync"], *row["joining"])})
    number = {shard: place for place, shard in enumerate(shards)}

    def packed(row: Row) -> dict[str, Any]:
        numbered = {
            **row,
            "primary": number[row["primary"]],
            "in_sync": {number[shard]: incarnation for shard, incarnation in row["in_sync"].items()},
            "joining": [number[shard] for shard in row["joining"]],
        }
        # Its place says which slot it is, and few have somebody who is to join.
        left_out = {"slot"} if row["joining"] else {"slot", "joining"}
        return {_SHORT.get(name, name): one for name, one in numbered.items() if name not in left_out}

    lines = [json.dumps(packed(row), separators=(",", ":")) for row in rows]
    return _lines({"format": PACKED, "shards": shards}, lines)


def _unpacked(value: Mapping[str, Any]) -> list[Row]:
    shards = [str(shard) for shard in value["shards"]]

    def shard(number: Any) -> str:
        if (place := int(number)) < 0:
            raise IndexError(place)
        return shards[place]

    rows: list[Row] = []
    for slot, packed in enumerate(value["slots"]):
        row: dict[str, Any] = {"slot": slot, **{_LONG.get(name, name): one for name, one in packed.items()}}
        row["primary"] = shard(row["primary"])
        row["in_sync"] = {shard(number): incarnation for number, incarnation in row["in_sync"].items()}
        row["joining"] = [shard(number) for number in row.get("joining", ())]
        rows.append(row)
    return rows
