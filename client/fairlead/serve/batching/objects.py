"""What belongs to an object as long as it lives, without holding it, changing it or asking for its equality."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

V = TypeVar("V")


class ByObject(Generic[V]):
    """A value for each object, told apart by identity. Values must not refer to their objects."""

    def __init__(self, make: Callable[[], V]) -> None:
        self._make = make
        self._values: dict[int, tuple[weakref.ref[Any], V]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def of(self, owner: Any) -> V:
        """The value of an object, made when it is first asked for. Raises TypeError if it cannot be referred to weakly.

        From any thread.
        """
        key = id(owner)
        found = self._values.get(key)
        if found is not None and found[0]() is owner:
            return found[1]
        values = self._values

        def forget(reference: weakref.ref[Any]) -> None:
            current = values.get(key)
            if current is not None and current[0] is reference:  # the id may be another object's by now
                del values[key]

        made = (weakref.ref(owner, forget), self._make())
        if found is not None:
            values[key] = made
        return values.setdefault(key, made)[1]
