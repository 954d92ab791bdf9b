"""Classes that are records: dataclasses, pydantic models, named tuples and typed dictionaries."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fairlead.serve.derived.errors import FieldError, HintError
from fairlead.serve.derived.lookup import hints_of
from fairlead.serve.derived.names import snake
from fairlead.serve.derived.shapes import OMITTED


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a record."""

    key: str
    hint: Any
    default: Any = OMITTED
    """``OMITTED``: it is required. ``UNKNOWN``: there is one that only the class can make."""
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """What a class says of its records."""

    doc: str
    attributes: tuple[Attribute, ...]
    build: Callable[[dict[str, Any]], Any]
    check: Callable[[Any], None]
    read: Callable[[Any, str], Any]


_MISSING = type(dataclasses.MISSING)
"""Of a class that travelled by value it is another object of this type."""


class _Unknown:
    """Some default."""

    def __repr__(self) -> str:
        return "..."


UNKNOWN = _Unknown()
"""A default that only the class can make."""


def model_of(kind: Any, where: str) -> Model | None:
    """What a class says of its records; None for a class that is none. Raises HintError for hints without a meaning."""
    if not isinstance(kind, type):
        return None
    if _is_pydantic(kind):
        return _pydantic(kind, where)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, where)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _named_tuple(kind, where)
    if typing.is_typeddict(kind):
        return _typed_dict(kind, where)
    return None


def _is_pydantic(kind: type) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(kind, pydantic.BaseModel)


def _instance_of(kind: type) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if not isinstance(value, kind):
            raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")

    return check


def _dataclass(kind: Any, where: str) -> Model:
    hints = hints_of(kind, where)
    attributes = []
    passed = set()
    for each in dataclasses.fields(kind):
        default: Any = OMITTED
        factory: Any = each.default_factory
        if not isinstance(each.default, _MISSING):
            default = each.default
        elif not isinstance(factory, _MISSING):
            default = _made(factory)
        if each.init:
            passed.add(each.name)
        elif default is OMITTED:
            default = UNKNOWN
        attributes.append(Attribute(each.name, hints[each.name], default, str(each.metadata.get("doc", ""))))

    def build(values: dict[str, Any]) -> Any:
        return kind(**{key: value for key, value in values.items() if key in passed})

    doc = vars(kind).get("__doc__") or ""
    generated = doc.startswith(f"{kind.__name__}(")
    return Model("" if generated else doc, tuple(attributes), build, _instance_of(kind), getattr)


def _made(factory: Callable[[], Any]) -> Any:
    """A factory's default, if it is the same each time as far as absence goes: an empty list or dict."""
    return factory() if factory in (list, dict, tuple, set, frozenset) else UNKNOWN


def _named_tuple(kind: Any, where: str) -> Model:
    hints = hints_of(kind, where)
    missing = [name for name in kind._fields if name not in hints]
    if missing:
        raise HintError(where, f"{kind.__name__} has no hint for {missing[0]!r}", "Use typing.NamedTuple")
    attributes = tuple(Attribute(name, hints[name], kind._field_defaults.get(name, OMITTED)) for name in kind._fields)
    doc = vars(kind).get("__doc__") or ""
    generated = doc.startswith(f"{kind.__name__}(")
    return Model("" if generated else doc, attributes, lambda values: kind(**values), _instance_of(kind), getattr)


def _typed_dict(kind: Any, where: str) -> Model:
    hints = hints_of(kind, where)
    attributes = []
    for name, hint in hints.items():
        required = name in kind.__required_keys__
        inner = hint
        while typing.get_origin(inner) in (typing.Required, typing.NotRequired):
            inner = typing.get_args(inner)[0]
        attributes.append(Attribute(name, inner, OMITTED if required else UNKNOWN))

    def check(value: Any) -> None:
        if not isinstance(value, Mapping):
            raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
        unknown = [key for key in value if key not in hints]
        if unknown:
            raise TypeError(f"{kind.__name__} has no key {unknown[0]!r}")

    def read(value: Any, key: str) -> Any:
        return value.get(key, OMITTED)

    return Model(vars(kind).get("__doc__") or "", tuple(attributes), dict, check, read)


def _pydantic(kind: Any, where: str) -> Model:
    import pydantic

    attributes = []
    aliases: dict[str, str] = {}
    for name, field in kind.model_fields.items():
        default: Any = OMITTED
        if field.default_factory is not None:
            default = _made(field.default_factory)
        elif not field.is_required():
            default = field.default
        alias = field.validation_alias or field.alias or name
        if isinstance(alias, pydantic.AliasChoices):
            alias = next((each for each in alias.choices if isinstance(each, str)), alias)
        if not isinstance(alias, str):
            raise HintError(
                f"{where}: field {name!r} of {kind.__name__}", "its alias is a path", "Use an alias that is a name"
            )
        aliases[name] = alias
        attributes.append(Attribute(name, field.annotation, default, field.description or ""))

    keys = {alias: name for name, alias in aliases.items()}
    is_root = issubclass(kind, pydantic.RootModel)

    def build(values: dict[str, Any]) -> Any:
        given = values.get("root") if is_root else {aliases[key]: value for key, value in values.items()}
        try:
            return kind.model_validate(given)
        except pydantic.ValidationError as error:
            raise _first(error, keys) from error

    return Model(vars(kind).get("__doc__") or "", tuple(attributes), build, _instance_of(kind), getattr)


def _first(error: Any, keys: Mapping[str, str]) -> FieldError:
    """The first of a pydantic error's problems, with its place; ``keys``: the attributes by their aliases."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    place = ""
    for step in problems[0]["loc"]:
        name = snake(keys.get(step, step)) if isinstance(step, str) else f"[{step}]"
        place += f".{name}" if place and not name.startswith("[") else name
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return FieldError(place, f"{problems[0]['msg']}{more}")
