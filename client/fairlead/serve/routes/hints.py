"""What a type hint says of where its values come from: text of a path or query, or structured JSON.

Looks at hints only, so that the driver can do without pydantic.
"""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import types
import typing
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

_SEQUENCES = (
    list,
    set,
    frozenset,
    tuple,
    collections.deque,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Set,
    collections.abc.MutableSet,
    collections.abc.Iterable,
    collections.abc.Collection,
)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


class Shape(NamedTuple):
    """The shape of a hint's values."""

    structured: bool
    """Whether a text cannot be one: models, dataclasses, dictionaries, lists of them, lists of lists."""
    many: bool = False
    """Whether they are lists of what texts can be."""
    open: bool = False
    """Whether a JSON object of any kind is one."""
    fields: frozenset[str] = frozenset()
    """The names in the JSON objects that they are made of."""


_SCALAR = Shape(structured=False)


def shape_of(hint: Any) -> Shape:
    """The shape of a hint's values. Of a union the most structured one counts."""
    hint = plain(hint)
    origin = get_origin(hint) or hint
    if origin in (Union, types.UnionType):
        shapes = [shape_of(each) for each in get_args(hint)]
        return Shape(
            any(shape.structured for shape in shapes),
            any(shape.many for shape in shapes) and not any(shape.structured for shape in shapes),
            any(shape.open for shape in shapes),
            frozenset().union(*(shape.fields for shape in shapes)),
        )
    if not isinstance(origin, type):
        return _SCALAR
    fields = _fields_of(origin)
    if fields is not None:
        return Shape(structured=True, fields=fields)
    if issubclass(origin, _MAPPINGS):
        return Shape(structured=True, open=True)
    if origin in _SEQUENCES:
        shapes = [shape_of(item) for item in items_of(hint)]
        nested = any(shape.structured or shape.many for shape in shapes)
        return Shape(structured=nested, many=not nested)
    return _SCALAR


def items_of(hint: Any) -> tuple[Any, ...]:
    """The hints of a sequence's items: one for all of them, or for a tuple of a fixed length one each."""
    arguments = get_args(plain(hint))
    return tuple(each for each in arguments if each is not Ellipsis) or (Any,)


def sequence_of(hint: Any) -> Any | None:
    """The hint of a sequence in this one, which may be a union with others such as None; None if there is none."""
    hint = plain(hint)
    origin = get_origin(hint) or hint
    if origin in (Union, types.UnionType):
        return next((found for each in get_args(hint) if (found := sequence_of(each)) is not None), None)
    return hint if origin in _SEQUENCES else None


def plain(hint: Any) -> Any:
    """A hint without ``Annotated``, aliases and new types around it."""
    while True:
        if get_origin(hint) is Annotated:
            hint = get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        else:
            return hint


def is_request(hint: Any) -> bool:
    """Whether it is a class of Starlette's requests."""
    hint = plain(hint)
    return isinstance(hint, type) and any(base.__module__ == "starlette.requests" for base in hint.__mro__)


def _fields_of(kind: type) -> frozenset[str] | None:
    """The names in the JSON object that a class's values are made of; None if they are made of something else."""
    model_fields = getattr(kind, "model_fields", None)  # of pydantic
    if isinstance(model_fields, dict):
        aliases = (getattr(field, "alias", None) for field in model_fields.values())
        return frozenset(model_fields) | {alias for alias in aliases if isinstance(alias, str)}
    if dataclasses.is_dataclass(kind):
        return frozenset(field.name for field in dataclasses.fields(kind))
    if hasattr(kind, "__required_keys__") and issubclass(kind, dict):  # a TypedDict, also that of typing_extensions
        return frozenset(kind.__annotations__)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return frozenset(kind._fields)
    return None
