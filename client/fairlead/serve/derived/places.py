"""Where in a message something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from fairlead.serve.derived.errors import FieldError
from fairlead.serve.derived.shapes import Label

PROBLEMS = (ValueError, TypeError, AttributeError, KeyError, OverflowError)
"""What conversions raise for values that cannot be."""


def placed(error: Exception, name: str) -> FieldError:
    """An error of what is at ``name``."""
    if isinstance(error, FieldError):
        return error.under(name)
    return FieldError(name, str(error))


def converted(values: Iterable[Any], convert: Callable[[Any], Any]) -> list[Any]:
    """Values, each converted. Raises FieldError that names the first that cannot be."""
    result = []
    for at, value in enumerate(values):
        try:
            result.append(convert(value))
        except PROBLEMS as error:
            raise placed(error, f"[{at}]") from error
    return result


def value_field(descriptor: FieldDescriptor, label: Label) -> FieldDescriptor:
    """The field whose type is that of one value: for a map, the entry's."""
    if label is not Label.MAP:
        return descriptor
    found: FieldDescriptor = message_type(descriptor).fields_by_name["value"]
    return found


def message_type(descriptor: FieldDescriptor) -> Descriptor:
    """The type of a message's field. Raises KeyError if it is another kind of field."""
    if descriptor.message_type is None:
        raise KeyError(f"{descriptor.full_name} is no message")
    return descriptor.message_type


def enum_type(descriptor: FieldDescriptor) -> EnumDescriptor:
    """The type of an enum's field. Raises KeyError if it is another kind of field."""
    if descriptor.enum_type is None:
        raise KeyError(f"{descriptor.full_name} is no enum")
    return descriptor.enum_type
