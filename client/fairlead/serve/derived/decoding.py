"""Messages to the values that hints ask for, as functions that are made once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from fairlead.serve.derived.errors import FieldError
from fairlead.serve.derived.places import PROBLEMS, converted, enum_type, message_type, placed, value_field
from fairlead.serve.derived.shapes import Absent, Convert, Enumeration, Field, Imported, Label, Message

Decode: TypeAlias = Callable[[Any], Any]
"""A message, or what protobuf gives for a field, to a value. Raises FieldError, or another of ``PROBLEMS``."""
_Step: TypeAlias = Callable[[Any, dict[str, Any]], None]
"""Reads one field of a message into a dictionary of values. Raises FieldError."""


class Decoders:
    """The decoders of one method's messages, each made once: messages may hold themselves."""

    def __init__(self) -> None:
        self._made: dict[int, list[Decode]] = {}

    def message(self, shape: Message, descriptor: Descriptor) -> Decode:
        """The decoder of a message. Raises KeyError where the descriptor lacks what the shape has."""
        cell = self._made.get(id(shape))
        if cell is not None:
            made = cell
            return lambda message: made[0](message)
        cell = self._made[id(shape)] = []
        build = shape.build
        steps = [self._step(field, descriptor.fields_by_name[field.name]) for field in shape.fields]

        def decode(message: Any) -> Any:
            values: dict[str, Any] = {}
            for step in steps:
                step(message, values)
            return build(values)

        cell.append(decode)
        return decode

    def _step(self, field: Field, descriptor: FieldDescriptor) -> _Step:
        convert = self._element(field, value_field(descriptor, field.label))
        if field.label is Label.REPEATED:
            return _whole_step(field, _list_decoder(convert))
        if field.label is Label.MAP:
            key = field.key_element.decode if field.key_element is not None else None
            return _whole_step(field, _map_decoder(key, convert))
        return _single_step(field, convert)

    def _element(self, field: Field, descriptor: FieldDescriptor) -> Convert | None:
        element = field.element
        if isinstance(element, Enumeration):
            numbers = enum_type(descriptor).values_by_name
            return _enum_decoder({numbers[name].number: member for name, member in element.members.items()})
        if isinstance(element, Message):
            return self.message(element, message_type(descriptor))
        return element.decode


def _whole_step(field: Field, get: Decode) -> _Step:
    """For a list or a map: it has no presence."""
    name, key, make, check = field.name, field.key, field.make, field.check

    def step(message: Any, values: dict[str, Any]) -> None:
        try:
            value = get(getattr(message, name))
            if make is not None:
                value = make(value)
            values[key] = value if check is None else check(value)
        except PROBLEMS as error:
            raise placed(error, name) from error

    return step


def _single_step(field: Field, convert: Convert | None) -> _Step:
    name, key, absent, check = field.name, field.key, field.absent, field.check
    has_presence = field.label is Label.OPTIONAL or isinstance(field.element, Message | Imported)

    def step(message: Any, values: dict[str, Any]) -> None:
        if has_presence and not message.HasField(name):
            if absent is Absent.REFUSED:
                raise FieldError(name, "is missing")
            if absent is Absent.NONE:
                values[key] = None
            return
        try:
            value = getattr(message, name)
            if convert is not None:
                value = convert(value)
            values[key] = value if check is None else check(value)
        except PROBLEMS as error:
            raise placed(error, name) from error

    return step


def _list_decoder(convert: Convert | None) -> Decode:
    if convert is None:
        return list

    def decode(values: Any) -> list[Any]:
        return converted(values, convert)

    return decode


def _map_decoder(decode_key: Convert | None, convert: Convert | None) -> Decode:
    if decode_key is None and convert is None:
        return dict

    def decode(entries: Any) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key, value in entries.items():
            try:
                own = key if decode_key is None else decode_key(key)
                result[own] = value if convert is None else convert(value)
            except PROBLEMS as error:
                raise placed(error, f"[{key!r}]") from error
        return result

    return decode


def _enum_decoder(members: dict[int, Any]) -> Decode:
    def decode(number: int) -> Any:
        member = members.get(number)
        if member is None:
            raise ValueError(f"{number} is no value of the enum" if number else "is missing")
        return member

    return decode
