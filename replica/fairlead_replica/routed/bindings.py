"""The bindings of a replica's routed methods, made when they are first used."""

from __future__ import annotations

from typing import Any

from fairlead.serve.routes.declaration import routed_method
from fairlead.wire.errors import MethodNotFoundError


class Bindings:
    """Finds the binding of a method for one of its routes. Any thread may ask."""

    def __init__(self, target: Any) -> None:
        """``target``: the user's instance or function."""
        self._target = target
        self._made: dict[tuple[str, str], Any] = {}

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
