"""Hypothesis strategies: messages of any type, and JSON documents that are almost right."""

from __future__ import annotations

import math
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from fairlead_gateway.edge.protojson.stores import is_map
from tests.edge.protojson import schema

_T = FieldDescriptor
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from([":", '":', "a:b", "\u2028"])
_DOUBLES = st.floats() | st.sampled_from([0.0, -0.0, 1.0, 1e300, 5e-324])
_FLOATS = st.floats(width=32) | st.sampled_from([float.fromhex("0x1.fffffep+127"), float.fromhex("0x1p-149")])
_VALUES: dict[int, st.SearchStrategy[Any]] = {
    **dict.fromkeys((_T.TYPE_INT32, _T.TYPE_SINT32, _T.TYPE_SFIXED32), st.integers(-(2**31), 2**31 - 1)),
    **dict.fromkeys((_T.TYPE_UINT32, _T.TYPE_FIXED32), st.integers(0, 2**32 - 1)),
    **dict.fromkeys((_T.TYPE_INT64, _T.TYPE_SINT64, _T.TYPE_SFIXED64), st.integers(-(2**63), 2**63 - 1)),
    **dict.fromkeys((_T.TYPE_UINT64, _T.TYPE_FIXED64), st.integers(0, 2**64 - 1)),
    _T.TYPE_DOUBLE: _DOUBLES,
    _T.TYPE_FLOAT: _FLOATS,
    _T.TYPE_BOOL: st.booleans(),
    _T.TYPE_STRING: _TEXT,
    _T.TYPE_BYTES: st.binary(max_size=9),
}


@st.composite
def messages(draw: st.DrawFn, name: str, depth: int = 0) -> Message:
    """A message of the type."""
    message = schema.new(name)
    _fill(draw, message, depth)
    return message


def _fill(draw: st.DrawFn, message: Any, depth: int) -> None:
    kind: Descriptor = message.DESCRIPTOR
    special = _SPECIAL.get(kind.full_name)
    if special is not None:
        special(draw, message, depth)
        return
    fields = list(kind.fields)
    if depth > 2:
        fields = [field for field in fields if field.message_type is None]
    chosen = draw(st.lists(st.sampled_from(fields), unique_by=lambda f: f.name, max_size=6)) if fields else []
    for field in chosen:
        _fill_field(draw, message, field, depth)


def _fill_field(draw: st.DrawFn, message: Any, field: FieldDescriptor, depth: int) -> None:
    if is_map(field):
        entry = field.message_type.fields_by_name
        for key in draw(st.lists(_scalar(entry["key"]), max_size=3)):
            if entry["value"].message_type is not None:
                _fill(draw, getattr(message, field.name)[key], depth + 1)
            else:
                getattr(message, field.name)[key] = draw(_scalar(entry["value"]))
    elif field.message_type is not None:
        for _ in range(draw(st.integers(1, 3)) if field.is_repeated else 1):
            inner = getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name)
            if not field.is_repeated:
                inner.SetInParent()
            _fill(draw, inner, depth + 1)
    elif field.is_repeated:
        getattr(message, field.name).extend(draw(st.lists(_scalar(field), max_size=4)))
    else:
        setattr(message, field.name, draw(_scalar(field)))


def _scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.type == _T.TYPE_ENUM:
        known = st.sampled_from(sorted(field.enum_type.values_by_number))
        if field.enum_type.is_closed or field.enum_type.full_name == "google.protobuf.NullValue":
            return known
        return known | st.integers(-(2**31), 2**31 - 1)
    return _VALUES[field.type]


def _timestamp(draw: st.DrawFn, message: Any, depth: int) -> None:
    message.seconds = draw(st.integers(-62135596800, 253402300799))
    message.nanos = draw(_NANOS)


def _duration(draw: st.DrawFn, message: Any, depth: int) -> None:
    sign = draw(st.sampled_from([1, -1]))
    message.seconds, message.nanos = sign * draw(st.integers(0, 315576000000)), sign * draw(_NANOS)


_NANOS = st.integers(0, 999_999_999) | st.integers(0, 999).map(lambda n: n * 1_000_000) | st.just(0)


def _mask(draw: st.DrawFn, message: Any, depth: int) -> None:
    message.paths.extend(draw(st.lists(st.from_regex(r"[a-z]{1,3}(_[a-z]{1,2}|\.[a-z])*", fullmatch=True), max_size=3)))


def _any(draw: st.DrawFn, message: Any, depth: int) -> None:
    names = ["t.Scalars", "t.Choice", "google.protobuf.Duration", "google.protobuf.Int64Value", "google.protobuf.Empty"]
    if depth < 3:
        names += ["google.protobuf.Any", "google.protobuf.ListValue"]
    name = draw(st.sampled_from([None, *names]))
    if name is not None:
        message.Pack(draw(messages(name, depth + 1)))


def _value(draw: st.DrawFn, message: Any, depth: int) -> None:
    kind = draw(st.sampled_from(["null", "number", "string", "bool", "struct", "list"][: 6 if depth < 4 else 4]))
    if kind == "null":
        message.null_value = 0
    elif kind == "number":
        message.number_value = draw(st.floats(allow_nan=False, allow_infinity=False))
    elif kind == "string":
        message.string_value = draw(_TEXT)
    elif kind == "bool":
        message.bool_value = draw(st.booleans())
    else:
        inner = message.struct_value if kind == "struct" else message.list_value
        inner.SetInParent()
        _fill(draw, inner, depth + 1)


def _struct(draw: st.DrawFn, message: Any, depth: int) -> None:
    for key in draw(st.lists(_TEXT, max_size=3)):
        _value(draw, message.fields[key], depth + 1)


def _list(draw: st.DrawFn, message: Any, depth: int) -> None:
    for _ in range(draw(st.integers(0, 3))):
        _value(draw, message.values.add(), depth + 1)


_SPECIAL = {
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Duration": _duration,
    "google.protobuf.FieldMask": _mask,
    "google.protobuf.Any": _any,
    "google.protobuf.Value": _value,
    "google.protobuf.Struct": _struct,
    "google.protobuf.ListValue": _list,
}

_NUMBERS = ["NaN", "Infinity", "-Infinity", "nan", "inf", "1", "-1", "01", "+1", "1.0", "1e3", "1.5", " 1", "1_0", ""]
_WORDS = ["AA==", "AA", "A", "-_", "!!", "A=A=", "AAA==", "true", "RED", "GREEN", "ONE", "SHUT_ONE", "aB,c.d", "a_b"]
_TIMES = [
    *["1s", "-1.5s", "1.s", "1.0000000001s", "s", "2026-01-01T00:00:00Z", "2026-1-1T0:0:0Z", "2026-02-30T00:00:00Z"],
    *["2026-01-01T00:00:00+99:00", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00", "2026-01-01t00:00:00Z"],
]
_EDGES: list[Any] = [
    *_NUMBERS,
    *_WORDS,
    *_TIMES,
    *[2**31, 2**32, 2**63, 2**64, 1e39, -1e39, 3.4028235e38, math.pi, 1.0, 1e3, -1, 1e20, "9223372036854775808"],
    *[
        {"@type": "x/t.Scalars"},
        {"@type": "x/google.protobuf.Duration", "value": "1s"},
        {"@type": "none"},
        {"@type": 1},
    ],
]
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT
    | st.sampled_from(_EDGES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)
"""Any JSON, with a liking for what lies near the edges of the rules."""


@st.composite
def mutated(draw: st.DrawFn, tree: Any, names: list[str]) -> Any:
    """The JSON value with one place changed: a value replaced, a name added, replaced or removed."""
    if isinstance(tree, dict):
        keys = list(tree)
        move = draw(
            st.sampled_from(["add", "rename", "remove", "inside", "inside", "replace"] if keys else ["add", "replace"])
        )
        if move == "replace":
            return draw(json_values)
        if move == "add":
            return {**tree, draw(st.sampled_from(names) | _TEXT): draw(json_values)}
        key = draw(st.sampled_from(keys))
        if move == "inside":
            return {**tree, key: draw(mutated(tree[key], names))}
        rest = {name: value for name, value in tree.items() if name != key}
        return {**rest, draw(st.sampled_from(names) | _TEXT): tree[key]} if move == "rename" else rest
    if isinstance(tree, list) and tree and draw(st.booleans()):
        index = draw(st.integers(0, len(tree) - 1))
        return [*tree[:index], draw(mutated(tree[index], names)), *tree[index + 1 :]]
    return draw(json_values)
