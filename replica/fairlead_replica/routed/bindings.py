"""The bindings of a replica's routed methods, made when they are first used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fairlead.paths import BUILTIN, Converter, StarlettePath
from fairlead.serve.routes.declaration import routed_method
from fairlead.wire.errors import MethodNotFoundError

ANY_ROUTE = "__fairlead_any_route__"
"""The attribute of a class whose instances take requests of any route as they are."""
CONVERTORS = "__fairlead_convertors__"
"""The attribute of such an instance that has Starlette convertors of the user's own, by name."""


class Bindings:
    """Finds the binding of a method for one of its routes. Any thread may ask."""

    def __init__(self, target: Any) -> None:
        """``target``: the user's instance or function."""
        self._target = target
        self._made: dict[tuple[str, str], Any] = {}
        self._paths: dict[str, StarlettePath] = {}
        self.any_route = bool(getattr(type(target), ANY_ROUTE, False))
        """Whether the target takes requests of any route as they are: its routes are declared elsewhere."""
        own = {
            name: Converter(regex=convertor.regex, convert=convertor.convert)
            for name, convertor in getattr(target, CONVERTORS, {}).items()
        }
        self._converters = {**BUILTIN, **own}

    def captured(self, path: str, texts: Mapping[str, str]) -> dict[str, Any]:
        """What a route's path captured, converted by its own converters. Raises MethodNotFoundError if it cannot be."""
        parsed = self._paths.get(path)
        if parsed is None:
            parsed = self._paths[path] = StarlettePath(path, self._converters)
        try:
            return {part.name: part.converter.convert(texts[part.name]) for part in parsed.parameters}
        except ValueError as error:
            raise MethodNotFoundError("no route matches the path") from error

    def find(self, method: str, path: str) -> Any:
        """The :class:`fairlead_replica.routed.binding.Binding`.

        Raises MethodNotFoundError if the method has no such route, and what making a binding raises.
        """
        found = self._made.get((method, path))
        if found is None:
            # Imported with the first request, so that replicas without routes do not carry pydantic.
            from fairlead_replica.routed.binding import Binding

            routed = routed_method(self._target, method)
            if routed is None:
                raise MethodNotFoundError(f"the method {method!r} has no routes")
            found = self._made[method, path] = Binding(routed, path)
        return found
