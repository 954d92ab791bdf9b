"""What becomes of a path and a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from fairlead.paths.route import Route

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """A route takes the request."""

    route: Route[T]
    params: dict[str, Any]
    """Of a Starlette path: converted values by name. Of a template: text by field path, not yet of the field's type."""


@dataclass(frozen=True, slots=True)
class MethodNotAllowed:
    """Routes match the path but not the method: 405. ``allow`` is for the ``Allow`` header (RFC 9110 15.5.6)."""

    allow: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OptionsAnswer:
    """OPTIONS on a path whose routes do not take it themselves (RFC 9110 9.3.7): success, with ``Allow``."""

    allow: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Redirect:
    """A Starlette path matches with the other ending, a slash or none: 307, as in ``starlette.routing.Router``.

    Make an absolute URL of ``raw_path``, with the query: a path that begins with "//" would else lead to another host.
    """

    raw_path: bytes


@dataclass(frozen=True, slots=True)
class NotFound:
    """No route matches the path: 404."""


Result: TypeAlias = Found[T] | MethodNotAllowed | OptionsAnswer | Redirect | NotFound
