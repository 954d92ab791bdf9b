"""Parameters of paths and queries: from a name and a text to a value in the JSON of a request's message.

A parameter becomes JSON, and the message is then made of that JSON as of any other: what a text may be, and what is
refused, is ProtoJSON's to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from fairlead.paths.rules import DOCUMENTS, TEXTS, WRAPPERS, resolve
from fairlead_gateway.edge.protojson import JsonRefused, document
from fairlead_gateway.edge.protojson.stores import is_map, message_of

_BOOLS = {"true": True, "false": False}
_KNOWN = 1000
"""Parameters of one message type that are remembered; types that hold themselves have any number of them."""
_DEEPEST_KNOWN = 8
"""Steps of a path that is remembered."""


class Parameter:
    """One parameter: a field, or one entry of a map."""

    __slots__ = ("_convert", "_keys", "_repeated", "fields", "name", "path")

    def __init__(self, fields: tuple[FieldDescriptor, ...], convert: Callable[[str], Any]) -> None:
        self.fields = fields
        self.path = tuple(field.name for field in fields)
        """The .proto names, which tell fields apart whatever name they were given by."""
        self.name = ".".join(field.json_name for field in fields)
        self._keys = tuple((field.json_name, field.name) for field in fields)
        self._convert = convert
        self._repeated = fields[-1].is_repeated

    def __repr__(self) -> str:
        return f"<Parameter {self.name}>"

    def value(self, text: str) -> Any:
        """The text as JSON's values have it. Raises JsonRefused that names the field."""
        try:
            return self._convert(text)
        except JsonRefused as refused:
            for field in reversed(self.fields):
                refused.under_field(field.json_name)
            raise

    def put(self, tree: dict[str, Any], value: Any, key: str | None = None) -> None:
        """Sets the field in a JSON object, whatever it held by either of its names; of a list it adds one item.

        ``key``: the entry of a map that is meant. Raises JsonRefused if something on the way is no object, or the value
        is there already.
        """
        holder = self._holder(tree)
        name = self._keys[-1][0]
        if key is not None:
            entries = holder.setdefault(name, {})
            if key in entries:
                raise JsonRefused("is given twice")
            entries[key] = value
        elif self._repeated:
            holder.setdefault(name, []).append(value)
        else:
            holder.pop(self._keys[-1][1], None)
            holder[name] = value

    def _holder(self, tree: dict[str, Any]) -> dict[str, Any]:
        """The object that holds the field, made where there is none."""
        steps = self._keys[:-1]
        for depth, (json_name, name) in enumerate(steps):
            found = tree.get(json_name)
            if found is None and name != json_name:
                found = tree.pop(name, None)
                if found is not None:
                    tree[json_name] = found
            if found is None:
                found = tree[json_name] = {}
            if type(found) is not dict:
                refused = JsonRefused("must be an object")
                for step, _ in reversed(steps[: depth + 1]):
                    refused.under_field(step)
                raise refused
            tree = found
        return tree


class ParameterSet:
    """The parameters of one message type, found when first asked for. Used by one event loop."""

    def __init__(self, message_type: Descriptor) -> None:
        self._type = message_type
        self._known: dict[str, Parameter] = {}

    def find(self, name: str) -> tuple[Parameter, str | None] | None:
        """The parameter of a name, and the key in ``labels[key]``; None: no parameter has that name."""
        key: str | None = None
        if name.endswith("]"):
            name, bracket, inner = name[:-1].partition("[")
            if not bracket:
                return None
            key = inner
        parameter = self._known.get(name)
        if parameter is None:
            parameter = self._made(name)
            if parameter is None:
                return None
            if len(self._known) < _KNOWN and len(parameter.fields) <= _DEEPEST_KNOWN:
                self._known[name] = parameter
        return (parameter, key) if is_map(parameter.fields[-1]) is (key is not None) else None

    def _made(self, name: str) -> Parameter | None:
        fields = resolve(self._type, name)
        if fields is None:
            return None
        last = fields[-1]
        convert = _conversion(message_of(last).fields_by_name["value"] if is_map(last) else last)
        return None if convert is None else Parameter(fields, convert)


def _conversion(field: FieldDescriptor) -> Callable[[str], Any] | None:
    """What makes JSON's value of a text; None: values of the field do not fit into one."""
    message = field.message_type
    if message is None:
        return _bool if field.type == FieldDescriptor.TYPE_BOOL else str
    if message.full_name in WRAPPERS:
        return _conversion(message.fields_by_name["value"])
    if message.full_name in TEXTS:
        return str
    return document if message.full_name in DOCUMENTS else None


def _bool(text: str) -> bool:
    try:
        return _BOOLS[text]
    except KeyError:
        raise JsonRefused("must be true or false") from None
