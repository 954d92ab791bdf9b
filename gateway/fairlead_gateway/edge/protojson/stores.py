"""How a JSON value gets into a field: alone, in a list, in a map."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import EncodeError, Message

from fairlead_gateway.edge.protojson import scalars
from fairlead_gateway.edge.protojson.refusals import JsonRefused, UnknownEnumName

Fill = Callable[[Message, Any, int], None]
"""Fills a message from JSON; the number counts the messages around it, itself included."""
Store = Callable[[Message, Any, int], None]
"""Puts JSON into a field of a message; the number is that of the message."""


class Access(NamedTuple):
    """Reads and writes one field of a message: an attribute or an extension."""

    read: Callable[[Any], Any]
    write: Callable[[Any, Any], None]


def attribute(field: FieldDescriptor) -> Access:
    """The access to a field of the message's own type."""
    name = field.name

    def write(message: Any, value: Any) -> None:
        setattr(message, name, value)

    return Access(attrgetter(name), write)


def extension(field: FieldDescriptor) -> Access:
    """The access to an extension."""

    def write(message: Any, value: Any) -> None:
        message.Extensions[field] = value

    return Access(lambda message: message.Extensions[field], write)


def serialized(message: Message) -> bytes:
    """The binary format; raises JsonRefused if a required field is missing or the message is too deep for it."""
    try:
        return message.SerializeToString()
    except EncodeError as error:
        raise JsonRefused("lacks a required field, or is nested too deeply") from error


def is_message(field: FieldDescriptor) -> bool:
    """Whether values of the field are messages (or groups)."""
    return field.message_type is not None


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a map."""
    return field.type == FieldDescriptor.TYPE_MESSAGE and bool(message_of(field).GetOptions().map_entry)


def message_of(field: FieldDescriptor) -> Descriptor:
    """The type of a field of messages."""
    message_type = field.message_type
    if message_type is None:
        raise TypeError(f"{field.full_name} is not a message")
    return message_type


def store(field: FieldDescriptor, access: Access, fill: Callable[[Descriptor], Fill], ignore: bool) -> Store:
    """The store of the field. ``ignore``: unknown names of enum values are dropped."""
    if is_map(field):
        entry = message_of(field).fields_by_name
        key, value = entry["key"], entry["value"]
        if is_message(value):
            return _message_map(access.read, scalars.key_from_json(key), fill(message_of(value)))
        return _scalar_map(access.read, scalars.key_from_json(key), scalars.from_json(value), ignore)
    if is_message(field):
        one = fill(message_of(field))
        if field.is_repeated:
            nullable = message_of(field).full_name == "google.protobuf.Value"
            return _message_list(access.read, one, nullable)
        return _message(access.read, one)
    convert = scalars.from_json(field)
    if field.is_repeated:
        return _scalar_list(access.read, convert, scalars.native_type(field), ignore)
    return _scalar(access.write, convert, ignore)


def null_store(field: FieldDescriptor, access: Access) -> Store | None:
    """What null means where it is a value: in a Value and a NullValue. None: the field is unset."""
    if is_message(field) and message_of(field).full_name == "google.protobuf.Value":

        def null_value(message: Message, value: Any, depth: int) -> None:
            access.read(message).null_value = 0

        return _no_list if field.is_repeated else null_value
    if field.enum_type is not None and field.enum_type.full_name == "google.protobuf.NullValue":

        def null_enum(message: Message, value: Any, depth: int) -> None:
            access.write(message, 0)

        return _no_list if field.is_repeated else null_enum
    return None


def _no_list(message: Message, value: Any, depth: int) -> None:
    raise JsonRefused("must be a list")


def _scalar(write: Callable[[Any, Any], None], convert: scalars.Convert, ignore: bool) -> Store:
    def put(message: Message, value: Any, depth: int) -> None:
        try:
            write(message, convert(value))
        except UnknownEnumName:
            if not ignore:
                raise

    return put


def _message(read: Callable[[Any], Any], fill: Fill) -> Store:
    def put(message: Message, value: Any, depth: int) -> None:
        inner = read(message)
        inner.SetInParent()
        fill(inner, value, depth + 1)

    return put


def _scalar_list(read: Callable[[Any], Any], convert: scalars.Convert, native: type | None, ignore: bool) -> Store:
    natives = {native}

    def put(message: Message, value: Any, depth: int) -> None:
        if type(value) is not list:
            raise JsonRefused("must be a list")
        items = read(message)
        if set(map(type, value)) == natives:
            try:
                items.extend(value)
            except ValueError:  # out of range: find which
                del items[:]
            else:
                return
        append = items.append
        for index, item in enumerate(value):
            try:
                append(convert(item))
            except UnknownEnumName as refused:
                if not ignore:
                    raise refused.under_index(index) from refused.__cause__
            except JsonRefused as refused:
                raise refused.under_index(index) from refused.__cause__

    return put


def _message_list(read: Callable[[Any], Any], fill: Fill, nullable: bool) -> Store:
    def put(message: Message, value: Any, depth: int) -> None:
        if type(value) is not list:
            raise JsonRefused("must be a list")
        add = read(message).add
        for index, item in enumerate(value):
            try:
                if item is None and not nullable:
                    raise JsonRefused("must not be null")
                fill(add(), item, depth + 1)
            except JsonRefused as refused:
                raise refused.under_index(index) from refused.__cause__

    return put


def _scalar_map(
    read: Callable[[Any], Any], convert_key: scalars.Convert, convert: scalars.Convert, ignore: bool
) -> Store:
    def put(message: Message, value: Any, depth: int) -> None:
        if type(value) is not dict:
            raise JsonRefused("must be an object")
        entries = read(message)
        for name, item in value.items():
            try:
                key = _new_key(entries, convert_key, name)
                entries[key] = convert(item)
            except UnknownEnumName as refused:
                if not ignore:
                    raise refused.under_key(name) from refused.__cause__
            except JsonRefused as refused:
                raise refused.under_key(name) from refused.__cause__

    return put


def _message_map(read: Callable[[Any], Any], convert_key: scalars.Convert, fill: Fill) -> Store:
    def put(message: Message, value: Any, depth: int) -> None:
        if type(value) is not dict:
            raise JsonRefused("must be an object")
        entries = read(message)
        for name, item in value.items():
            try:
                fill(entries[_new_key(entries, convert_key, name)], item, depth + 1)
            except JsonRefused as refused:
                raise refused.under_key(name) from refused.__cause__

    return put


def _new_key(entries: Any, convert_key: scalars.Convert, name: Any) -> Any:
    key = convert_key(name)
    if key in entries:  # "1" and "1.0"
        raise JsonRefused("is there twice")
    return key
