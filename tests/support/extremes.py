"""Messages with each field at its extremes, one at a time: by descriptors, so that no new field is forgotten. Pure."""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message

_EXTREMES: Final[dict[int, tuple[Any, ...]]] = {
    Field.TYPE_UINT32: (0, 2**31, 2**32 - 1),
    Field.TYPE_UINT64: (0, 2**53 + 1, 2**62, 2**64 - 1),
    Field.TYPE_BYTES: (b"", b"\xff", bytes(15), b"\xff" * 2**20),
    Field.TYPE_STRING: ("", "x", "x" * 2**18),
    Field.TYPE_BOOL: (False, True),
    Field.TYPE_DOUBLE: (0.0, float("inf"), float("nan"), -1.0),
    Field.TYPE_ENUM: (0, 77),
}
COUNTS: Final = (1, 2, 5000)
"""How often a value of a repeated field is added to those that are there."""


class Variant(NamedTuple):
    """One message, and what of it is at an extreme."""

    what: str
    message: Message


def variants(baseline: Message) -> Iterator[Variant]:
    """Yield the message with one field changed, for each field of it and of what is in it, and each extreme."""
    for what, change in _changes(baseline, baseline.DESCRIPTOR.name):
        message = type(baseline)()
        message.CopyFrom(baseline)
        change(message)
        yield Variant(what, message)


def _changes(message: Message, path: str) -> Iterator[tuple[str, Callable[[Any], None]]]:
    for field in message.DESCRIPTOR.fields:
        here = f"{path}.{field.name}"
        yield f"{here} left out", _clearing(field.name)
        if field.message_type is not None:
            yield from _of_messages(message, field, here)
        elif field.is_repeated:
            for extreme in _EXTREMES[field.type]:
                for count in COUNTS[:1] if isinstance(extreme, bytes | str) and len(extreme) > 100 else COUNTS:
                    yield f"{here} + {count} of {_short(extreme)}", _extending(field.name, [extreme] * count)
                yield f"{here} all {_short(extreme)}", _filling(field.name, extreme)
        else:
            for extreme in _EXTREMES[field.type]:
                yield f"{here} = {_short(extreme)}", _setting(field.name, extreme)


def _of_messages(message: Message, field: Any, here: str) -> Iterator[tuple[str, Callable[[Any], None]]]:
    if not field.is_repeated:
        inner = getattr(message, field.name)
        for what, change in _changes(inner, here):
            yield what, _within(field.name, change)
        return
    parts = getattr(message, field.name)
    assert len(parts), f"the baseline has no {here}: what is in it would not be tried"
    for what, change in _changes(parts[0], f"{here}[0]"):
        yield what, _within_first(field.name, change)
    for count in COUNTS:
        yield f"{here} + {count} empty", _adding(field.name, [type(parts[0])()] * count)
        yield f"{here} + {count} of the same", _adding(field.name, [parts[0]] * count)


def _within(name: str, change: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda message: change(getattr(message, name))


def _within_first(name: str, change: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda message: change(getattr(message, name)[0])


def _clearing(name: str) -> Callable[[Any], None]:
    return lambda message: message.ClearField(name)


def _setting(name: str, value: Any) -> Callable[[Any], None]:
    return lambda message: setattr(message, name, value)


def _extending(name: str, values: list[Any]) -> Callable[[Any], None]:
    return lambda message: getattr(message, name).extend(values)


def _adding(name: str, values: list[Any]) -> Callable[[Any], None]:
    return lambda message: getattr(message, name).extend(values)


def _filling(name: str, value: Any) -> Callable[[Any], None]:
    def fill(message: Any) -> None:
        count = len(getattr(message, name))
        message.ClearField(name)
        getattr(message, name).extend([value] * count)

    return fill


def _short(value: Any) -> str:
    return f"{len(value)} bytes" if isinstance(value, bytes | str) and len(value) > 20 else repr(value)
