"""Type hints as JSON schemas, by pydantic; a driver without it describes routes without schemas."""

from __future__ import annotations

import importlib
import re
from types import ModuleType
from typing import Any

from fairlead.serve.routes.declaration import RoutedMethod

Json = dict[str, Any]

_REFERENCE = "#/components/schemas/{model}"


class Schemas:
    """The schemas of one method's hints, those of models by name."""

    def __init__(self, method: RoutedMethod) -> None:
        self._method = method
        self._pydantic = _pydantic()
        self._named: Json = {}

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
        return self._schema(adapter, "validation")

    def result(self, hint: Any) -> Json:
        """The schema of values that results become; empty, which is anything, where pydantic cannot tell."""
        if self._pydantic is None or hint is Any:
            return {}
        try:
            adapter = self._pydantic.TypeAdapter(hint)
        except self._pydantic.errors.PydanticUserError:
            return {}
        return self._schema(adapter, "serialization")

    def value(self, value: Any) -> Any:
        """A default as JSON's values; None for what has no such form."""
        if self._pydantic is None:
            return value if isinstance(value, bool | int | float | str) else None
        try:
            return importlib.import_module("pydantic_core").to_jsonable_python(value)
        except ValueError:
            return None

    def named(self) -> Json:
        """The schemas that the others refer to."""
        return self._named

    def _schema(self, adapter: Any, mode: str) -> Json:
        assert self._pydantic is not None
        try:
            schema: Json = adapter.json_schema(mode=mode, ref_template=_REFERENCE)
        except self._pydantic.errors.PydanticInvalidForJsonSchema:  # it can be converted to, and not described
            return {}
        self._named |= schema.pop("$defs", {})
        if "title" in schema and schema.get("type") == "object" and "properties" in schema:
            name = re.sub(r"[^A-Za-z0-9._-]", "_", schema["title"])  # as pydantic names those that it refers to
            if self._named.setdefault(name, schema) == schema:
                return {"$ref": _REFERENCE.format(model=name)}
        return schema


def _pydantic() -> ModuleType | None:
    try:
        return importlib.import_module("pydantic")
    except ImportError:
        return None
