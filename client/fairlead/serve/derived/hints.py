"""Type hints taken apart, and those that mean nothing to callers named."""

from __future__ import annotations

import collections.abc
import types
import typing
from typing import Any

from fairlead.serve.derived.errors import HintError
from fairlead.serve.derived.shapes import Convert

LISTS: dict[Any, Convert | None] = {
    list: None,
    collections.abc.Sequence: None,
    collections.abc.MutableSequence: None,
    collections.abc.Collection: None,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.abc.Set: frozenset,
    collections.abc.MutableSet: set,
}
MAPS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
STREAMS = (
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
)


def without_none(hint: Any) -> tuple[Any, bool]:
    """A hint without ``Annotated``, ``NewType``, aliases and ``None``; and whether it had the last."""
    while True:
        if typing.get_origin(hint) is typing.Annotated:
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif hasattr(hint, "__value__") and hasattr(hint, "__type_params__") and not isinstance(hint, type):
            hint = hint.__value__  # a type alias
        elif typing.get_origin(hint) in (typing.Union, types.UnionType):
            members = typing.get_args(hint)
            kept = tuple(each for each in members if each is not type(None))
            if len(kept) == len(members) or not kept:
                return hint, False
            return without_none(typing.Union[kept])[0], True  # noqa: UP007 - of a tuple
        else:
            return hint, False


def spelled(hint: Any) -> str:
    """A hint as users write it."""
    return (
        hint.__qualname__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")
    )


def unmapped(where: str, hint: Any) -> HintError:
    """The error for a hint that cannot be mapped, with what to write instead."""
    if hint is Any or hint is object:
        return HintError(
            where, f"{spelled(hint)} says nothing of the value", "Write what it is; a dataclass for a record"
        )
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return HintError(
            where, f"{spelled(hint)} is one of several types", "Use a dataclass with an optional field for each"
        )
    if hint is None or hint is type(None):
        return HintError(where, "None is no value to send", "Leave it out, or write X | None")
    if isinstance(hint, typing.TypeVar):
        return HintError(where, f"{hint} stands for any type", "Write the type itself")
    if isinstance(hint, str | typing.ForwardRef):
        text = hint if isinstance(hint, str) else hint.__forward_arg__
        return HintError(where, f"{text!r} cannot be looked up", "Define or import what it names in the module")
    return HintError(
        where,
        f"{spelled(hint)} cannot be mapped to protobuf",
        "Use a scalar, a list or dict, an enum, a dataclass, a pydantic model, bytes, a datetime or a NumPy array",
    )
