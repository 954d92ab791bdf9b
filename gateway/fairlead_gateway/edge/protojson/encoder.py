"""Messages of one type to JSON, compiled from their descriptor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message

from fairlead_gateway.edge.protojson import scalars, stores, times
from fairlead_gateway.edge.protojson.options import Options
from fairlead_gateway.edge.protojson.refusals import NotRepresentable
from fairlead_gateway.edge.protojson.well_known_decoder import SPECIAL, WRAPPERS

Write = Callable[[Any], Any]


class Encoder:
    """Writes messages of one type. Holds no state of a call; may be used by several threads.

    Every method raises NotRepresentable for a message that has no JSON.
    """

    def __init__(self, message_type: Descriptor, encoders: EncoderSet) -> None:
        """Made by ProtoJson.encoder()."""
        self.message_type = message_type
        self._class: type[Message] = message_factory.GetMessageClass(message_type)
        self._encoders = encoders
        self._write = encoders.write(message_type)

    def dump(self, message: Message) -> bytes:
        """The message as JSON text, UTF-8 without white space."""
        return _dumped(self.tree(message))

    def transcoded(self, payload: bytes) -> bytes:
        """The same from protobuf's binary format."""
        try:
            message = self._class.FromString(payload)
        except DecodeError as error:
            raise NotRepresentable(f"the payload is not a {self.message_type.full_name}") from error
        return self.dump(message)

    def tree(self, message: Message) -> Any:
        """The message as JSON values (dicts, lists, str, int, float, bool, None)."""
        try:
            return self._write(message)
        except RecursionError as error:
            raise NotRepresentable("the message is nested too deeply") from error

    def dump_field(self, message: Message, field: str) -> bytes:
        """One field (by its .proto name) of a message of this type alone as JSON text; what is unset is its default.

        An unset message is ``null``. Raises KeyError if there is no such field.
        """
        descriptor = self.message_type.fields_by_name[field]
        if stores.is_message(descriptor) and not descriptor.is_repeated and not message.HasField(field):
            return b"null"
        write = self._encoders.writer(descriptor)
        value = getattr(message, field)
        try:
            return _dumped(value if write is None else write(value))
        except RecursionError as error:
            raise NotRepresentable("the message is nested too deeply") from error


def _dumped(tree: Any) -> bytes:
    try:
        return orjson.dumps(tree)
    except TypeError as error:  # depth, or a string of proto2 that is not UTF-8
        raise NotRepresentable("the message is nested too deeply or has text that is not Unicode") from error


class EncoderSet:
    """The encoders of one pool and one set of options, compiled when first needed."""

    def __init__(self, pool: DescriptorPool, options: Options) -> None:
        self._pool = pool
        self.options = options
        self._writes: dict[Descriptor, Write] = {}
        self._encoders: dict[Descriptor, Encoder] = {}

    def encoder(self, message_type: Descriptor) -> Encoder:
        """The encoder of this type."""
        encoder = self._encoders.get(message_type)
        if encoder is None:
            encoder = self._encoders[message_type] = Encoder(message_type, self)
        return encoder

    def write(self, message_type: Descriptor) -> Write:
        """What makes JSON values of a message of this type."""
        write = self._writes.get(message_type)
        if write is None:
            write = self._writes[message_type] = self._compiled(message_type)
        return write

    def writer(self, field: FieldDescriptor) -> Write | None:
        """What makes a JSON value of the value of the field: a scalar, a message, a list or a map."""
        if stores.is_map(field):
            return _map_write(self._item(stores.message_of(field).fields_by_name["value"]))
        item = self._item(field)
        return _list_write(item) if field.is_repeated else item

    def _item(self, field: FieldDescriptor) -> Write | None:
        if stores.is_message(field):
            return self.write(stores.message_of(field))
        return scalars.to_json(field, enum_numbers=self.options.enum_numbers)

    def _compiled(self, message_type: Descriptor) -> Write:
        name = message_type.full_name
        if name in WRAPPERS:
            return _wrapper_write(self._item(message_type.fields_by_name["value"]))
        if name == "google.protobuf.Any":
            return self._write_any
        if name == "google.protobuf.Value":
            # A Value of null is 0 if enums are numbers: json_format's rule is null in both cases.
            return _write_value
        return _WRITES.get(name) or ObjectWrite(message_type, self)

    def _write_any(self, message: Any) -> dict[str, Any]:
        if not message.type_url and not message.value:
            return {}
        try:
            found = self._pool.FindMessageTypeByName(message.type_url.rpartition("/")[2])
            inner = message_factory.GetMessageClass(found).FromString(message.value)
        except KeyError as error:
            raise NotRepresentable("an Any holds a type that is not known here") from error
        except DecodeError as error:
            raise NotRepresentable(f"an Any holds bytes that are not a {found.full_name}") from error
        tree = self.write(found)(inner)
        if found.full_name in WRAPPERS or found.full_name in SPECIAL:
            return {"@type": message.type_url, "value": tree}
        return {"@type": message.type_url, **tree}


class ObjectWrite:
    """Makes the JSON object of a message's fields."""

    def __init__(self, message_type: Descriptor, encoders: EncoderSet) -> None:
        self._type = message_type
        self._encoders = encoders
        # Compiled by the first message, so that types may refer to each other in circles.
        self._fields: dict[FieldDescriptor, tuple[str, Write | None]] = {}
        self._defaults: list[tuple[str, type | None, Any]] | None = None

    def __call__(self, message: Message) -> dict[str, Any]:
        """The fields that are set, and those without presence if defaults are wanted."""
        fields = self._fields
        tree = {}
        for descriptor, value in message.ListFields():
            field = fields.get(descriptor)
            if field is None:
                field = fields[descriptor] = self._field(descriptor)
            name, write = field
            tree[name] = value if write is None else write(value)
        if self._encoders.options.emit_defaults:
            self._fill_up(tree)
        return tree

    def _field(self, descriptor: FieldDescriptor) -> tuple[str, Write | None]:
        """The name, and what makes JSON of the value; None: it is JSON as it is."""
        return self._name(descriptor), self._encoders.writer(descriptor)

    def _name(self, descriptor: FieldDescriptor) -> str:
        if descriptor.is_extension:
            return f"[{descriptor.full_name}]"
        return descriptor.name if self._encoders.options.proto_names else descriptor.json_name

    def _fill_up(self, tree: dict[str, Any]) -> None:
        if self._defaults is None:
            self._defaults = [self._default(field) for field in self._type.fields if not field.has_presence]
        for name, empty, default in self._defaults:
            if name not in tree:
                tree[name] = default if empty is None else empty()

    def _default(self, field: FieldDescriptor) -> tuple[str, type | None, Any]:
        name = self._name(field)
        if field.is_repeated:
            return name, dict if stores.is_map(field) else list, None
        write = self._encoders.writer(field)
        return name, None, field.default_value if write is None else write(field.default_value)


def _wrapper_write(item: Write | None) -> Write:
    if item is None:
        return lambda message: message.value
    return lambda message: item(message.value)


def _list_write(item: Write | None) -> Write:
    if item is None:
        return lambda values: values[:]  # a list, in half the time of list()
    return lambda values: [item(value) for value in values]


def _map_write(item: Write | None) -> Write:
    def write(entries: Any) -> dict[str, Any]:
        if item is None:
            return {scalars.write_key(key): value for key, value in entries.items()}
        return {scalars.write_key(key): item(value) for key, value in entries.items()}

    return write


def _write_value(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    if kind == "struct_value":
        return _write_struct(message.struct_value)
    if kind == "list_value":
        return _write_list(message.list_value)
    value = getattr(message, kind)
    if kind == "number_value" and type(scalars.write_double(value)) is str:
        raise NotRepresentable("a Value holds NaN or an infinity")
    return value


def _write_struct(message: Any) -> dict[str, Any]:
    return {name: _write_value(value) for name, value in message.fields.items()}


def _write_list(message: Any) -> list[Any]:
    return [_write_value(value) for value in message.values]


_WRITES: dict[str, Write] = {
    "google.protobuf.Timestamp": lambda message: times.write_timestamp(message.seconds, message.nanos),
    "google.protobuf.Duration": lambda message: times.write_duration(message.seconds, message.nanos),
    "google.protobuf.FieldMask": lambda message: times.write_mask(message.paths),
    "google.protobuf.Struct": _write_struct,
    "google.protobuf.ListValue": _write_list,
}
