"""JSON to messages of one type, compiled from its descriptor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from fairlead_gateway.edge.protojson import scalars, stores
from fairlead_gateway.edge.protojson.document import document
from fairlead_gateway.edge.protojson.options import Options
from fairlead_gateway.edge.protojson.refusals import JsonRefused, UnknownEnumName
from fairlead_gateway.edge.protojson.stores import Access, Fill, Store
from fairlead_gateway.edge.protojson.well_known_decoder import AnyFill, well_known_fill

# Messages within messages, the outermost included: json_format's limit.
_DEEPEST = 100


class _Guard(NamedTuple):
    """What a field must not stand beside."""

    twin: str | None
    """The field's other name."""
    oneof: str | None
    """Its oneof, if that has other members."""


_Member = tuple[type | None, str, scalars.Convert | None, Store, Store | None, _Guard | None]
"""How a name in a JSON object becomes a field (a bare tuple, as it is taken apart for every field of every message):

- the type whose values are assigned as they are; None: none are
- the attribute of the message
- the conversion of other values, to be assigned to the attribute; None: it takes a store
- what takes any value but null
- what takes null; None: the field stays unset
- what the field must not stand beside
"""


class Decoder:
    """Builds messages of one type. Holds no state of a call; may be used by several threads.

    Every method raises JsonRefused for input that does not fit.
    """

    def __init__(self, message_type: Descriptor, decoders: DecoderSet) -> None:
        """Made by ProtoJson.decoder()."""
        self.message_type = message_type
        self._class: Callable[[], Message] = message_factory.GetMessageClass(message_type)
        self._fill = decoders.fill(message_type)

    def parse(self, body: bytes | str) -> Message:
        """A new message from a JSON text."""
        return self.message(document(body))

    def serialized(self, body: bytes | str) -> bytes:
        """The same in protobuf's binary format; a required field that is missing is refused."""
        return stores.serialized(self.parse(body))

    def message(self, tree: Any) -> Message:
        """A new message from what ``document`` returns: dicts, lists, str, int, finite float, bool, None."""
        message = self._class()
        self._fill(message, tree, 1)
        return message


class DecoderSet:
    """The decoders of one pool and one set of options, compiled when first needed."""

    def __init__(self, pool: DescriptorPool, options: Options) -> None:
        self.options = options
        self.pool = pool
        self._fills: dict[Descriptor, Fill] = {}
        self._decoders: dict[Descriptor, Decoder] = {}

    def decoder(self, message_type: Descriptor) -> Decoder:
        """The decoder of this type."""
        decoder = self._decoders.get(message_type)
        if decoder is None:
            decoder = self._decoders[message_type] = Decoder(message_type, self)
        return decoder

    def fill(self, message_type: Descriptor) -> Fill:
        """What fills a message of this type from JSON."""
        fill = self._fills.get(message_type)
        if fill is None:
            fill = self._compiled(message_type)
        return fill

    def _compiled(self, message_type: Descriptor) -> Fill:
        if message_type.full_name == "google.protobuf.Any":
            special: Fill | None = AnyFill(self.pool, self.options, self.regular, self.fill)
        else:
            special = well_known_fill(message_type)
        fill = self.regular(message_type) if special is None else _bounded(special)
        self._fills[message_type] = fill
        return fill

    def extension(self, key: str, extended: Descriptor) -> FieldDescriptor | None:
        """The extension of the type that a name in brackets means; None if there is none."""
        if not extended.is_extendable or not key.startswith("[") or not key.endswith("]"):
            return None
        try:
            field: FieldDescriptor = extended.file.pool.FindExtensionByName(key[1:-1])
        except (KeyError, UnicodeError):
            return None
        return field if field.containing_type is extended else None

    def regular(self, message_type: Descriptor) -> Fill:
        """What fills a message from the object of its fields, whatever its type."""
        return ObjectFill(message_type, self)


def _bounded(inner: Fill) -> Fill:
    def fill(message: Message, tree: Any, depth: int) -> None:
        if depth > _DEEPEST:
            raise JsonRefused(f"is nested deeper than {_DEEPEST} messages")
        inner(message, tree, depth)

    return fill


class ObjectFill:
    """Fills a message from the JSON object of its fields."""

    def __init__(self, message_type: Descriptor, decoders: DecoderSet) -> None:
        self._type = message_type
        self._decoders = decoders
        self._ignore = decoders.options.ignore_unknown_fields
        self._extensions: dict[str, _Member] = {}
        # Compiled by the first message, so that types may refer to each other in circles.
        self._members: dict[str, _Member] | None = None

    def __call__(self, message: Message, tree: Any, depth: int) -> None:
        """Set the fields that the object names."""
        if type(tree) is not dict:
            raise JsonRefused("must be an object")
        if depth > _DEEPEST:
            raise JsonRefused(f"is nested deeper than {_DEEPEST} messages")
        members = self._members
        if members is None:
            members = self._members = self._compiled()
        oneofs: set[str] | None = None
        for key, value in tree.items():
            member = members.get(key)
            try:
                if member is None:
                    member = self._extension(key)
                    if member is None:
                        continue
                native, name, convert, store, null, guard = member
                if guard is not None:
                    oneofs = _checked(guard, tree, value is None and null is None, oneofs)
                if type(value) is native:
                    setattr(message, name, value)
                elif value is None:
                    if null is not None:
                        null(message, value, depth)
                elif convert is not None:
                    setattr(message, name, convert(value))
                else:
                    store(message, value, depth)
            except UnknownEnumName as refused:
                if not self._ignore:
                    raise refused.under_field(key) from refused.__cause__
            except JsonRefused as refused:
                raise refused.under_field(key) from refused.__cause__
            except ValueError as error:
                raise _unfit(error).under_field(key) from error

    def _extension(self, key: Any) -> _Member | None:
        """The member of a name in brackets; None: unknown and to be ignored."""
        if type(key) is not str:
            raise JsonRefused("names must be strings")
        member = self._extensions.get(key)
        if member is not None:
            return member
        field = self._decoders.extension(key, self._type)
        if field is not None:
            put, null = self._stores(field, stores.extension(field))
            member = self._extensions[key] = (None, field.name, None, put, null, None)
            return member
        if self._ignore:
            return None
        raise JsonRefused(f"{self._type.full_name} has no such field")

    def _compiled(self) -> dict[str, _Member]:
        members: dict[str, _Member] = {}
        for field in self._type.fields:
            members[field.name] = self._member(field, twin=field.json_name if field.json_name != field.name else None)
        for field in self._type.fields:  # where a name is both, json_format prefers that of JSON
            members[field.json_name] = self._member(field, twin=None)
        return members

    def _member(self, field: FieldDescriptor, twin: str | None) -> _Member:
        oneof = field.containing_oneof
        group = oneof.name if oneof is not None and len(oneof.fields) > 1 else None
        guard = _Guard(twin, group) if twin is not None or group is not None else None
        plain = not field.is_repeated and not stores.is_message(field)
        native = scalars.native_type(field) if plain else None
        convert = scalars.from_json(field) if plain else None
        put, null = self._stores(field, stores.attribute(field))
        return native, field.name, convert, put, null, guard

    def _stores(self, field: FieldDescriptor, access: Access) -> tuple[Store, Store | None]:
        return stores.store(field, access, self._decoders.fill, self._ignore), stores.null_store(field, access)


def _checked(guard: _Guard, tree: dict[str, Any], unset: bool, oneofs: set[str] | None) -> set[str] | None:
    """The oneofs seen, this field's included; raises JsonRefused if the field must not stand here."""
    if guard.twin is not None and guard.twin in tree:
        raise JsonRefused(f"is there as {guard.twin} too")
    if guard.oneof is None or unset:
        return oneofs
    if oneofs is None:
        return {guard.oneof}
    if guard.oneof in oneofs:
        raise JsonRefused(f"is a second member of the oneof {guard.oneof}")
    oneofs.add(guard.oneof)
    return oneofs


def _unfit(error: ValueError) -> JsonRefused:
    return JsonRefused("is not valid Unicode text" if isinstance(error, UnicodeError) else "is out of range")
