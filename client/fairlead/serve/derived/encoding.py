"""Values to messages, as functions that are made once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from fairlead.serve.derived.places import PROBLEMS, converted, enum_type, message_type, placed, value_field
from fairlead.serve.derived.shapes import OMITTED, Absent, Convert, Enumeration, Field, Imported, Label, Message

Fill: TypeAlias = Callable[[Any, Any], None]
"""``fill(message, value)`` writes a value, or a field's, into an empty message. Raises one of ``PROBLEMS``."""


class Fillers:
    """What fills one method's messages, each made once: messages may hold themselves."""

    def __init__(self) -> None:
        self._made: dict[int, list[Fill]] = {}

    def message(self, shape: Message, descriptor: Descriptor) -> Fill:
        """What fills a message. Raises KeyError where the descriptor lacks what the shape has."""
        cell = self._made.get(id(shape))
        if cell is not None:
            made = cell
            return lambda message, value: made[0](message, value)
        cell = self._made[id(shape)] = []
        check, read = shape.check, shape.read
        steps = [(each.name, each.key, self._step(each, descriptor.fields_by_name[each.name])) for each in shape.fields]

        def fill(message: Any, value: Any) -> None:
            check(value)
            for name, key, write in steps:
                try:
                    write(message, read(value, key))
                except PROBLEMS as error:
                    raise placed(error, name) from error

        cell.append(fill)
        return fill

    def _step(self, field: Field, descriptor: FieldDescriptor) -> Fill:
        element = field.element
        one = value_field(descriptor, field.label)
        if isinstance(element, Message | Imported):
            fill = element.encode if isinstance(element, Imported) else self.message(element, message_type(one))
            if field.label is Label.MAP:
                return _messages_map(field, fill)
            return _messages(field.name, fill) if field.label is Label.REPEATED else _one_message(field, fill)
        encode = _enum_encoder(element, one) if isinstance(element, Enumeration) else element.encode or _same
        if field.label is Label.MAP:
            return _scalars_map(field, encode)
        return _scalars(field.name, encode) if field.label is Label.REPEATED else _one_scalar(field, encode)


def _is_absent(field: Field) -> Callable[[Any], bool]:
    """Tells values that are not sent. Raises ValueError for those that have to be."""
    may_be = field.absent is not Absent.REFUSED

    def absent(value: Any) -> bool:
        if value is not None and value is not OMITTED:
            return False
        if not may_be:
            raise ValueError("there is no value, and there has to be one")
        return True

    return absent


def _one_scalar(field: Field, encode: Convert) -> Fill:
    name, is_absent = field.name, _is_absent(field)

    def write(message: Any, value: Any) -> None:
        if not is_absent(value):
            setattr(message, name, encode(value))

    return write


def _one_message(field: Field, fill: Fill) -> Fill:
    name, is_absent = field.name, _is_absent(field)

    def write(message: Any, value: Any) -> None:
        if not is_absent(value):
            part = getattr(message, name)
            part.SetInParent()  # it is there even if nothing in it differs from its default
            fill(part, value)

    return write


def _scalars(name: str, encode: Convert) -> Fill:
    def write(message: Any, value: Any) -> None:
        getattr(message, name).extend(converted(_items(value), encode))

    return write


def _messages(name: str, fill: Fill) -> Fill:
    def write(message: Any, value: Any) -> None:
        repeated = getattr(message, name)
        converted(_items(value), lambda each: fill(repeated.add(), each))

    return write


def _scalars_map(field: Field, encode: Convert) -> Fill:
    def write(entries: Any, key: Any, value: Any) -> None:
        entries[key] = encode(value)

    return _map(field, write)


def _messages_map(field: Field, fill: Fill) -> Fill:
    def write(entries: Any, key: Any, value: Any) -> None:
        part = entries[key]  # asking for it makes it
        fill(part, value)

    return _map(field, write)


def _map(field: Field, write_entry: Callable[[Any, Any, Any], None]) -> Fill:
    assert field.key_element is not None
    name, encode_key = field.name, field.key_element.encode or _same

    def write(message: Any, value: Any) -> None:
        if not isinstance(value, Mapping):
            raise TypeError(f"expected a dict, got {type(value).__name__}")
        entries = getattr(message, name)
        for key, each in value.items():
            try:
                write_entry(entries, encode_key(key), each)
            except PROBLEMS as error:
                raise placed(error, f"[{key!r}]") from error

    return write


def _enum_encoder(element: Enumeration, descriptor: FieldDescriptor) -> Convert:
    numbers = enum_type(descriptor).values_by_name
    by_member = {member: numbers[name].number for name, member in element.members.items()}

    def encode(value: Any) -> int:
        number = by_member.get(value)
        if number is None or type(value) is not type(next(iter(by_member))):
            raise TypeError(f"{value!r} is no member of {element.name}")
        return number

    return encode


def _items(value: Any) -> Iterable[Any]:
    """A value that should be a list, or something like it. Raises TypeError for strings and for what is none."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise TypeError(f"expected a list, got {type(value).__name__}")
    return value


def _same(value: Any) -> Any:
    return value
