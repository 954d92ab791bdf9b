"""Hints to shapes: what each becomes in protobuf."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import types
import typing
from typing import Any

from fairlead.serve.derived import names
from fairlead.serve.derived.models import Model, model_of
from fairlead.serve.derived.scalars import PLAIN, WELL_KNOWN, WRITTEN, choice, numpy_scalar, subclass_of_scalar
from fairlead.serve.derived.shapes import (
    OMITTED,
    Absent,
    Convert,
    Element,
    Enumeration,
    Field,
    HintError,
    Imported,
    Label,
    Message,
    Scalar,
)
from fairlead.serve.derived.tensors import is_array, tensor

_LISTS: dict[Any, Convert | None] = {
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
_MAPS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_STREAMS = (
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
)
_DEEPEST = 40
"""How deep hints may nest; deeper ones are taken for endless."""


class Reader:
    """Reads the hints of one service; its messages and enums gather here."""

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.enums: dict[str, Enumeration] = {}
        self._by_source: dict[Any, Message | Enumeration] = {}
        self._depth = 0

    def field(self, where: str, key: str, hint: Any, default: Any = OMITTED, doc: str = "") -> Field:
        """The field for a parameter or attribute ``key``; ``default`` is ``OMITTED`` where it is required.

        Raises HintError.
        """
        name = names.snake(key)
        if not names.is_field_name(name):
            raise HintError(where, f"{key!r} cannot be the name of a field", "Give it a name of ASCII letters")
        inner, optional = without_none(hint)
        if default is None:
            optional = True
        elif optional and default is not OMITTED:
            raise HintError(
                where,
                f"a field that is not sent can mean None or the default {default!r}, not both",
                f"Make None the default of {key!r}, or take None out of its hint",
            )
        absent = Absent.REFUSED if default is OMITTED else Absent.OMITTED
        if optional and default is OMITTED:
            absent = Absent.NONE
        plural = None if absent is Absent.NONE or _has_content(default) else self._plural(where, inner)
        if plural is not None and not optional:
            return Field(name=name, key=key, absent=absent, doc=doc, **plural)
        label = Label.SINGULAR if absent is Absent.REFUSED else Label.OPTIONAL
        element = self.element(where, inner)
        return Field(name=name, key=key, label=label, element=element, absent=absent, doc=doc)

    def element(self, where: str, hint: Any) -> Element:
        """What one value of a hint is; lists, maps and what may be None get a message around them. Raises HintError."""
        self._depth += 1
        try:
            if self._depth > _DEEPEST:
                raise HintError(where, "the hint does not end", "Break the circle with a dataclass")
            inner, optional = without_none(hint)
            if optional:
                return self._wrapped("Optional{}", "value", where, hint, "A value, or none.")
            plural = self._plural(where, inner)
            if plural is not None:
                key = plural.get("key_element")
                if key is None:
                    return self._wrapped("{}List", "values", where, inner, "A list, where one cannot stand by itself.")
                prefix = "" if key.name == "string" else key.label
                return self._wrapped(
                    prefix + "{}Map", "values", where, inner, "A map, where one cannot stand by itself."
                )
            return self._single(where, inner)
        finally:
            self._depth -= 1

    def message(self, where: str, message: Message) -> Message:
        """Keeps a message under its name. Raises HintError if another one has it."""
        if not names.is_type_name(message.name):
            raise HintError(where, f"{message.name!r} cannot be the name of a message", "Rename the class")
        there: Any = self.messages.get(message.name) or self.enums.get(message.name)
        if there is not None and not _alike(there, message):
            raise HintError(
                where, f"two types would be the message {message.name!r}: {_origin(there)}, {_origin(message)}",
                "Rename one of them",
            )  # fmt: skip
        self.messages.setdefault(message.name, message)
        return message

    def _wrapped(self, name: str, key: str, where: str, hint: Any, doc: str) -> Message:
        """A message of one field around what cannot be an element itself."""
        field = self.field(where, key, hint)
        return self.message(
            where,
            Message(
                name=name.format(field.element.label[:1].upper() + field.element.label[1:]),
                doc=doc,
                source=None,
                build=lambda values: values[key],
                check=_anything,
                read=lambda value, _: value,
                fields=[dataclasses.replace(field, doc="What it holds.")],
            ),
        )

    def _plural(self, where: str, hint: Any) -> dict[str, Any] | None:
        """What is special in the field for a list or map; None for other hints."""
        origin = typing.get_origin(hint) or hint
        arguments = typing.get_args(hint)
        if origin in _MAPS:
            if len(arguments) != 2:
                raise HintError(where, "a bare dict does not say what it holds", "Write dict[str, float], for example")
            key = self.element(f"{where}, key", arguments[0])
            if not isinstance(key, Scalar) or key.name in ("float", "double", "bytes"):
                raise HintError(
                    where,
                    f"the keys of a map are str, int or bool, not {spelled(arguments[0])}",
                    "Use such keys, or a list of a dataclass with key and value",
                )
            return {"label": Label.MAP, "key_element": key, "element": self.element(where, arguments[1])}
        if origin not in _LISTS:
            return None
        if not arguments:
            name = getattr(origin, "__name__", "list")
            raise HintError(where, f"a bare {name} does not say what it holds", f"Write {name}[float], for example")
        if origin is tuple and (len(arguments) != 2 or arguments[1] is not Ellipsis):
            problem = f"{spelled(hint)} has parts without names"
            raise HintError(where, problem, "Use a NamedTuple or a dataclass, or tuple[X, ...]")
        return {"label": Label.REPEATED, "make": _LISTS[origin], "element": self.element(where, arguments[0])}

    def _single(self, where: str, hint: Any) -> Element:
        if is_array(hint):
            return tensor(hint, where)
        origin = typing.get_origin(hint)
        if origin is typing.Literal:
            return self._literal(where, hint)
        if origin in _STREAMS or hint in _STREAMS:
            raise HintError(
                where,
                f"{spelled(hint)} is a stream, which only a method's first parameter and its result can be",
                "Use list[...] for values that come together",
            )
        if isinstance(hint, type) and origin is None:
            return self._class(where, hint)
        if origin is not None and model_of(origin, where) is not None:
            raise HintError(where, f"{spelled(hint)} is generic", "Write a class for this case of it")
        raise _unmapped(where, hint)

    def _literal(self, where: str, hint: Any) -> Scalar:
        values = typing.get_args(hint)
        kinds = {type(value) for value in values}
        if len(kinds) != 1 or not kinds <= PLAIN.keys():
            raise HintError(where, f"{spelled(hint)} has values of several types", "Use an enum")
        return choice(values, PLAIN[kinds.pop()])

    def _class(self, where: str, kind: type) -> Element:
        if issubclass(kind, enum.Enum):
            return self._enum(where, kind)
        exact: Scalar | Imported | None = PLAIN.get(kind) or WRITTEN.get(kind) or WELL_KNOWN.get(kind)
        if exact is None:
            exact = numpy_scalar(kind)
        if exact is not None:
            return exact
        known = self._by_source.get(kind)
        if isinstance(known, Message):
            return known
        model = model_of(kind, where)
        if model is not None:
            return self._model(where, kind, model)
        found = subclass_of_scalar(kind)
        if found is None:
            raise _unmapped(where, kind)
        return found

    def _model(self, where: str, kind: type, model: Model) -> Message:
        message = Message(
            name=names.pascal(kind.__name__), doc=model.doc, source=kind, build=model.build, check=model.check,
            read=model.read,
        )  # fmt: skip
        self._by_source[kind] = message  # before its fields: they may lead back to it
        self.message(where, message)
        for each in model.attributes:
            there = f"{where}: field {each.key!r} of {kind.__name__}"
            message.fields.append(self.field(there, each.key, each.hint, each.default, each.doc))
        check_names(where, message)
        return message

    def _enum(self, where: str, kind: type[enum.Enum]) -> Enumeration:
        known = self._by_source.get(kind)
        if isinstance(known, Enumeration):
            return known
        if issubclass(kind, enum.Flag):
            raise HintError(where, f"{kind.__name__} is a set of flags", "Use int, or a list of an Enum")
        name = names.pascal(kind.__name__)
        prefix = names.upper_snake(name)
        members = {f"{prefix}_{names.upper_snake(member.name)}": member for member in kind}
        if not names.is_type_name(name) or not all(each.isascii() and each.isidentifier() for each in members):
            raise HintError(
                where, f"{kind.__name__} has names that protobuf cannot have", "Use ASCII letters and digits"
            )
        if len(members) != len(list(kind)) or f"{prefix}_UNSPECIFIED" in members or not members:
            raise HintError(
                where,
                f"the members of {kind.__name__} would not have names of their own; {prefix}_UNSPECIFIED is taken",
                "Rename those that differ only in case or underscores",
            )
        there: Any = self.messages.get(name) or self.enums.get(name)
        if there is not None:
            raise HintError(where, f"two types would be {name!r}: {_origin(there)} and {kind}", "Rename one of them")
        made = Enumeration(name=name, doc=own_doc(kind), zero=f"{prefix}_UNSPECIFIED", members=members)
        self.enums[name] = self._by_source[kind] = made
        return made


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


def check_names(where: str, message: Message) -> None:
    """Raises HintError for two fields of one message whose names cannot be told apart, also in JSON."""
    seen: dict[str, str] = {}
    for field in message.fields:
        other = seen.setdefault(names.camel(field.name), field.key)
        if other != field.key:
            raise HintError(
                where, f"{other!r} and {field.key!r} of {message.name} would have the same name", "Rename one of them"
            )


def spelled(hint: Any) -> str:
    """A hint as users write it."""
    return (
        hint.__qualname__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")
    )


def own_doc(kind: type) -> str:
    """The docstring that was written for a class, and not inherited or generated."""
    doc = vars(kind).get("__doc__") or ""
    generated = doc.startswith(f"{kind.__name__}(") or doc == "An enumeration."
    return "" if generated else doc


def _unmapped(where: str, hint: Any) -> HintError:
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
        return HintError(where, f"the name {hint!r} cannot be looked up", "Define or import it in the module")
    return HintError(
        where,
        f"{spelled(hint)} cannot be mapped to protobuf",
        "Use a scalar, a list or dict, an enum, a dataclass, a pydantic model, bytes, a datetime or a NumPy array",
    )


def _has_content(default: Any) -> bool:
    """Whether a list or dict is there by default, with something in it, so that absent and empty are not the same."""
    return default is not OMITTED and default is not None and not (hasattr(default, "__len__") and len(default) == 0)


def _anything(value: Any) -> None:
    pass


def _alike(there: Message | Enumeration, message: Message) -> bool:
    """Whether two messages are one in protobuf: only those that hints made necessary can be."""
    if isinstance(there, Enumeration) or there.source is not None or message.source is not None:
        return there is message
    return [(each.name, each.label, each.type) for each in there.fields] == [
        (each.name, each.label, each.type) for each in message.fields
    ]


def _origin(there: Message | Enumeration) -> str:
    if isinstance(there, Enumeration):
        return "an enum"
    if there.source is None:
        return "one made for a list, a map, a request or a response"
    return f"{there.source.__module__}.{there.source.__qualname__}"
