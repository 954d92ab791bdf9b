"""Type hints as JSON schemas, by pydantic; a driver without it describes routes without schemas."""

from __future__ import annotations

import importlib
import re
from types import ModuleType
from typing import Any

from fairlead.serve.routes.declaration import RoutedMethod

Json = dict[str, Any]

_PREFIX = "#/components/schemas/"
_OUTPUT = "-Output"


class Schemas:
    """The schemas of one method's hints, those of models by name.

    What a model takes and what it is written as may differ: a decimal may be given as a number, and is written as text.
    Where they do, results refer to the latter as ``Name-Output``.
    """

    def __init__(self, method: RoutedMethod) -> None:
        self._method = method
        self._pydantic = _pydantic()
        self._inputs: Json = {}
        self._outputs: Json = {}

    def of(self, hint: Any, what: str) -> Json:
        """The schema of values that are converted to the hint. Raises TypeError, naming ``what``, if none can be."""
        if self._pydantic is None or hint is Any:
            return {}
        try:
            adapter = self._pydantic.TypeAdapter(hint)
        except self._pydantic.errors.PydanticUserError as error:
            raise TypeError(
                f"{what} of {self._method} has the type hint {hint!r}, to which JSON cannot be converted: "
                f"{str(error).splitlines()[0]}"
            ) from error
        return self._schema(adapter, "validation", "", self._inputs)

    def result(self, hint: Any) -> Json:
        """The schema of values that results become; empty, which is anything, where pydantic cannot tell."""
        if self._pydantic is None or hint is Any:
            return {}
        try:
            adapter = self._pydantic.TypeAdapter(hint)
        except self._pydantic.errors.PydanticUserError:
            return {}
        return self._schema(adapter, "serialization", _OUTPUT, self._outputs)

    def value(self, value: Any) -> Any:
        """A default as JSON's values; None for what has no such form."""
        if self._pydantic is None:
            return value if isinstance(value, bool | int | float | str) else None
        try:
            return importlib.import_module("pydantic_core").to_jsonable_python(value)
        except ValueError:
            return None

    def settled(self, operation: Json) -> tuple[Json, Json]:
        """An operation made of these schemas, and those that it refers to, under their final names."""
        alike = set(self._outputs)
        while True:
            names = {name + _OUTPUT: name for name in alike}
            differing = {
                name
                for name in alike
                if name in self._inputs and _renamed(self._outputs[name], names) != self._inputs[name]
            }
            if not differing:
                break
            alike -= differing  # those that refer to them differ, too
        outputs = {(name if name in alike else name + _OUTPUT): each for name, each in self._outputs.items()}
        return _renamed(operation, names), _renamed({**self._inputs, **outputs}, names)

    def _schema(self, adapter: Any, mode: str, suffix: str, named: Json) -> Json:
        assert self._pydantic is not None
        try:
            schema: Json = adapter.json_schema(mode=mode, ref_template=_PREFIX + "{model}" + suffix)
        except self._pydantic.errors.PydanticInvalidForJsonSchema:  # it can be converted to, and not described
            return {}
        named |= schema.pop("$defs", {})
        if "title" in schema and schema.get("type") == "object" and "properties" in schema:
            name = re.sub(r"[^A-Za-z0-9._-]", "_", schema["title"])  # as pydantic names those that it refers to
            if named.setdefault(name, schema) == schema:
                return {"$ref": f"{_PREFIX}{name}{suffix}"}
        return schema


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """A copy in which references have other names."""
    if isinstance(value, dict):
        copy = {key: _renamed(each, names) for key, each in value.items()}
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(_PREFIX):
            name = reference.removeprefix(_PREFIX)
            copy["$ref"] = _PREFIX + names.get(name, name)
        return copy
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    return value


def _pydantic() -> ModuleType | None:
    try:
        return importlib.import_module("pydantic")
    except ImportError:
        return None
