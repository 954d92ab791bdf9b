"""The well-known types with a JSON of their own: from JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from fairlead_gateway.edge.protojson import scalars, times
from fairlead_gateway.edge.protojson.options import Options
from fairlead_gateway.edge.protojson.refusals import JsonRefused
from fairlead_gateway.edge.protojson.stores import Fill, serialized

WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
"""The types that are a scalar in JSON."""
SPECIAL = frozenset(
    f"google.protobuf.{name}" for name in ("Any", "Duration", "FieldMask", "ListValue", "Struct", "Timestamp", "Value")
)
"""The other types that are not the object of their fields in JSON."""

# Kept beside that of the decoder: a Value is its own recursion.
_DEEPEST = 100


def well_known_fill(message_type: Descriptor) -> Fill | None:
    """What fills a message of the type if it has a JSON of its own, except Any; the depth is not checked."""
    name = message_type.full_name
    if name in WRAPPERS:
        return _wrapper_fill(message_type)
    return _FILLS.get(name)


def _wrapper_fill(message_type: Descriptor) -> Fill:
    convert = scalars.from_json(message_type.fields_by_name["value"])

    def fill(message: Any, tree: Any, depth: int) -> None:
        message.value = convert(tree)

    return fill


def _fill_timestamp(message: Any, tree: Any, depth: int) -> None:
    message.seconds, message.nanos = times.read_timestamp(tree)


def _fill_duration(message: Any, tree: Any, depth: int) -> None:
    message.seconds, message.nanos = times.read_duration(tree)


def _fill_mask(message: Any, tree: Any, depth: int) -> None:
    message.paths.extend(times.read_mask(tree))


def _fill_value(message: Any, tree: Any, depth: int) -> None:
    if depth > _DEEPEST:
        raise JsonRefused(f"is nested deeper than {_DEEPEST} messages")
    kind = type(tree)
    if kind is str:
        message.string_value = scalars.read_string(tree)
    elif kind is bool:
        message.bool_value = tree
    elif kind is float or kind is int:
        message.number_value = scalars.read_double(tree)
    elif tree is None:
        message.null_value = 0
    elif kind is dict:
        _fill_struct(message.struct_value, tree, depth + 1)
    elif kind is list:
        _fill_list(message.list_value, tree, depth + 1)
    else:
        raise JsonRefused("must be a JSON value")


def _fill_struct(message: Any, tree: Any, depth: int) -> None:
    if type(tree) is not dict:
        raise JsonRefused("must be an object")
    if depth > _DEEPEST:
        raise JsonRefused(f"is nested deeper than {_DEEPEST} messages")
    message.SetInParent()
    fields = message.fields
    for name, item in tree.items():
        try:
            _fill_value(fields[scalars.read_string(name)], item, depth + 1)
        except JsonRefused as refused:
            raise refused.under_field(name) from refused.__cause__


def _fill_list(message: Any, tree: Any, depth: int) -> None:
    if type(tree) is not list:
        raise JsonRefused("must be a list")
    if depth > _DEEPEST:
        raise JsonRefused(f"is nested deeper than {_DEEPEST} messages")
    message.SetInParent()
    add = message.values.add
    for index, item in enumerate(tree):
        try:
            _fill_value(add(), item, depth + 1)
        except JsonRefused as refused:
            raise refused.under_index(index) from refused.__cause__


_FILLS: dict[str, Fill] = {
    "google.protobuf.Timestamp": _fill_timestamp,
    "google.protobuf.Duration": _fill_duration,
    "google.protobuf.FieldMask": _fill_mask,
    "google.protobuf.Value": _fill_value,
    "google.protobuf.Struct": _fill_struct,
    "google.protobuf.ListValue": _fill_list,
}


class AnyFill:
    """Fills an Any: its type is found by ``@type``, the message is what stands beside it or under ``value``."""

    def __init__(
        self,
        pool: DescriptorPool,
        options: Options,
        regular: Callable[[Descriptor], Fill],
        special: Callable[[Descriptor], Fill],
    ) -> None:
        """``regular`` fills from an object of fields, which counts no level, ``special`` from any JSON and does."""
        self._pool = pool
        self._ignore = options.ignore_unknown_fields
        self._regular = regular
        self._special = special
        self._known: dict[str, tuple[Callable[[], Message], Fill, int | None]] = {}

    def __call__(self, message: Any, tree: Any, depth: int) -> None:
        """Set type_url and value, or nothing for an empty object."""
        if type(tree) is not dict:
            raise JsonRefused("must be an object with @type")
        if not tree:
            return
        url = tree.get("@type")
        if type(url) is not str:
            raise JsonRefused("must have a string as @type")
        message_class, fill, levels = self._type(url)
        inner = message_class()
        if levels is None:
            fill(inner, {name: value for name, value in tree.items() if name != "@type"}, depth)
        else:
            self._fill_special(inner, tree, fill, depth + levels)
        message.value = serialized(inner)
        message.type_url = url

    def _fill_special(self, inner: Message, tree: dict[str, Any], fill: Fill, depth: int) -> None:
        if "value" not in tree:
            raise JsonRefused("must have a value beside @type")
        if len(tree) > 2 and not self._ignore:
            raise JsonRefused("must have nothing but @type and value")
        try:
            fill(inner, tree["value"], depth)
        except JsonRefused as refused:
            raise refused.under_field("value") from refused.__cause__

    def _type(self, url: str) -> tuple[Callable[[], Message], Fill, int | None]:
        """The class, its fill, and the levels that ``value`` counts; None: the fields stand beside @type."""
        name = url.rpartition("/")[2]
        known = self._known.get(name)
        if known is None:
            try:
                found = self._pool.FindMessageTypeByName(name)
            except (KeyError, UnicodeError) as error:
                raise JsonRefused("has an @type that is not known here").under_field("@type") from error
            known = self._known[name] = self._compiled(found)
        return known

    def _compiled(self, found: Descriptor) -> tuple[Callable[[], Message], Fill, int | None]:
        message_class: Callable[[], Message] = message_factory.GetMessageClass(found)
        wrapper = found.full_name in WRAPPERS and well_known_fill(found)
        if wrapper:
            return message_class, wrapper, 0
        if found.full_name in SPECIAL:
            return message_class, self._special(found), 1
        return message_class, self._regular(found), None
