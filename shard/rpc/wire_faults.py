"""What is wrong with bytes that are no message of a type, and in which field: for who has to mend what sent them. Pure.

The parser of protobuf says only that something is. This one is for what that refused: it walks the same bytes, slowly.
"""

from typing import Final, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

DEPTH_MAX: Final = 16

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES: Final = {_FIXED64: 8, _FIXED32: 4}


class Fault(NamedTuple):
    """The first thing that is wrong.

    Attributes:
        field: Where, like ``events[3].user``; "" if that can't be told.
        reason: What, to be read after the field's name.
    """

    field: str
    reason: str


class _Cut(Exception):
    """The bytes end, or go wrong, within a field."""


def fault_in(data: bytes, descriptor: Descriptor) -> Fault:
    """Return why ``data`` is no message of the type; in doubt, that it is none.

    Args:
        data: Bytes that protobuf could not read.
        descriptor: Of the type.
    """
    return _first_fault(memoryview(data), descriptor, "", 0) or Fault("", f"is not a {descriptor.full_name}")


def _first_fault(data: memoryview, descriptor: Descriptor, path: str, depth: int) -> Fault | None:
    counts: dict[int, int] = {}
    at = 0
    name = ""
    try:
        while at < len(data):
            name = ""
            tag, at = _varint(data, at)
            number, wire_type = tag >> 3, tag & 7
            field = descriptor.fields_by_number.get(number)
            place = counts.get(number, 0)
            counts[number] = place + 1
            if field is not None:
                name = f"{field.name}[{place}]" if field.is_repeated else field.name
            value, at = _value(data, at, wire_type)
            if field is None or value is None:
                continue
            found = _fault_of(value, field, f"{path}{name}", depth)
            if found is not None:
                return found
    except _Cut:
        return Fault(f"{path}{name}".rstrip("."), "is cut off, or is no protobuf message")
    return None


def _fault_of(value: memoryview, field: FieldDescriptor, path: str, depth: int) -> Fault | None:
    if field.type == FieldDescriptor.TYPE_STRING:
        try:
            str(value, "utf-8")
        except UnicodeDecodeError:
            return Fault(path, "must be valid UTF-8")
    elif field.message_type is not None and depth < DEPTH_MAX:
        return _first_fault(value, field.message_type, f"{path}.", depth + 1)
    return None


def _value(data: memoryview, at: int, wire_type: int) -> tuple[memoryview | None, int]:
    """Return a field's bytes, if it is of those that have some, and where the next field begins."""
    if wire_type == _VARINT:
        return None, _varint(data, at)[1]
    if wire_type == _BYTES:
        length, at = _varint(data, at)
    elif wire_type in _FIXED_BYTES:
        length = _FIXED_BYTES[wire_type]
    else:
        raise _Cut
    end = at + length
    if end > len(data):
        raise _Cut
    return (data[at:end] if wire_type == _BYTES else None), end


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _Cut
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Cut
