"""Hints to shapes: what each becomes in protobuf."""

from __future__ import annotations

import dataclasses
import enum
import typing
from typing import Any

from fairlead.serve.derived import names
from fairlead.serve.derived.errors import HintError
from fairlead.serve.derived.hints import LISTS, MAPS, STREAMS, spelled, unmapped, without_none
from fairlead.serve.derived.models import Model, model_of
from fairlead.serve.derived.namespace import Namespace, check_names
from fairlead.serve.derived.scalars import PLAIN, WELL_KNOWN, WRITTEN, choice, numpy_scalar, subclass_of_scalar
from fairlead.serve.derived.shapes import (
    OMITTED,
    Absent,
    Element,
    Field,
    Imported,
    Label,
    Message,
    Scalar,
)
from fairlead.serve.derived.tensors import is_array, tensor

_DEEPEST = 40
"""How deep hints may nest; deeper ones are taken for endless."""


class Reader:
    """Reads the hints of one service; its messages and enums gather in the name space."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self._depth = 0

    def field(self, where: str, key: str, hint: Any, default: Any = OMITTED, doc: str = "") -> Field:
        """The field for a parameter or attribute ``key``; ``default`` is ``OMITTED`` where it is required.

        Raises HintError.
        """
        name = self.name(where, key)
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

    def name(self, where: str, key: str) -> str:
        """The name of the field for ``key``. Raises HintError."""
        name = names.snake(key)
        if not names.is_field_name(name):
            raise HintError(where, f"{key!r} cannot be the name of a field", "Give it a name of ASCII letters")
        return name

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

    def _wrapped(self, name: str, key: str, where: str, hint: Any, doc: str) -> Message:
        """A message of one field around what cannot be an element itself."""
        field = self.field(where, key, hint)
        return self.namespace.add_message(
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
        if origin in MAPS:
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
        if origin not in LISTS:
            return None
        if not arguments:
            name = getattr(origin, "__name__", "list")
            raise HintError(where, f"a bare {name} does not say what it holds", f"Write {name}[float], for example")
        if origin is tuple and (len(arguments) != 2 or arguments[1] is not Ellipsis):
            problem = f"{spelled(hint)} has parts without names"
            raise HintError(where, problem, "Use a NamedTuple or a dataclass, or tuple[X, ...]")
        return {"label": Label.REPEATED, "make": LISTS[origin], "element": self.element(where, arguments[0])}

    def _single(self, where: str, hint: Any) -> Element:
        if is_array(hint):
            return tensor(hint, where)
        origin = typing.get_origin(hint)
        if origin is typing.Literal:
            return self._literal(where, hint)
        if origin in STREAMS or hint in STREAMS:
            raise HintError(
                where,
                f"{spelled(hint)} is a stream, which only a method's first parameter and its result can be",
                "Use list[...] for values that come together",
            )
        if isinstance(hint, type) and origin is None:
            return self._class(where, hint)
        if origin is not None and model_of(origin, where) is not None:
            raise HintError(where, f"{spelled(hint)} is generic", "Write a class for this case of it")
        raise unmapped(where, hint)

    def _literal(self, where: str, hint: Any) -> Scalar:
        values = typing.get_args(hint)
        kinds = {type(value) for value in values}
        if len(kinds) != 1 or not kinds <= PLAIN.keys():
            raise HintError(where, f"{spelled(hint)} has values of several types", "Use an enum")
        return choice(values, PLAIN[kinds.pop()])

    def _class(self, where: str, kind: type) -> Element:
        if issubclass(kind, enum.Enum):
            return self.namespace.enumeration(where, kind)
        exact: Scalar | Imported | None = PLAIN.get(kind) or WRITTEN.get(kind) or WELL_KNOWN.get(kind)
        if exact is None:
            exact = numpy_scalar(kind)
        if exact is not None:
            return exact
        known = self.namespace.known(kind)
        if isinstance(known, Message):
            return known
        model = model_of(kind, where)
        if model is not None:
            return self._model(where, kind, model)
        found = subclass_of_scalar(kind)
        if found is None:
            raise unmapped(where, kind)
        return found

    def _model(self, where: str, kind: type, model: Model) -> Message:
        message = Message(
            name=names.pascal(kind.__name__),
            doc=model.doc,
            source=kind,
            build=model.build,
            check=model.check,
            read=model.read,
        )
        self.namespace.add_message(where, message)  # before its fields: they may lead back to it
        depth, self._depth = self._depth, 0
        for each in model.attributes:
            there = f"{where}: field {each.key!r} of {kind.__name__}"
            message.fields.append(self.field(there, each.key, each.hint, each.default, each.doc))
        self._depth = depth
        check_names(where, message)
        return message


def _has_content(default: Any) -> bool:
    """Whether a list or dict is there by default, with something in it, so that absent and empty are not the same."""
    return default is not OMITTED and default is not None and not (hasattr(default, "__len__") and len(default) == 0)


def _anything(value: Any) -> None:
    pass
