"""The router: routes in, a path and a method to a result.

Templates are searched in a tree, the most specific first, in whatever order they are registered. Starlette's paths are
tried in the order in which they are registered, as in Starlette. Where both match, the rank of the two routes decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

from fairlead.paths.errors import DuplicateRouteError
from fairlead.paths.results import Found, MethodNotAllowed, NotFound, OptionsAnswer, Redirect, Result
from fairlead.paths.route import ANY_METHOD, Route, Shape
from fairlead.paths.starlette_path import StarlettePath
from fairlead.paths.target import Target
from fairlead.paths.template import Template
from fairlead.paths.trie import Trie

T = TypeVar("T")

_NOT_FOUND = NotFound()


class PathRouter(Generic[T]):
    """Routes of both dialects. Immutable: a change of the routes makes a new one. Any thread may match at any time."""

    def __init__(self, routes: Iterable[Route[T]] = ()) -> None:
        """Raises DuplicateRouteError if two routes take the same method on the same paths."""
        self.routes = tuple(routes)
        taken = _taken(self.routes)
        self._tries: dict[str, Trie[Route[T]]] = {}
        ordered: list[tuple[StarlettePath, frozenset[str], Route[T]]] = []
        for route in self.routes:
            if isinstance(route.pattern, Template):
                trie = self._tries.setdefault(route.pattern.verb, Trie())
                for method in route.methods:
                    trie.add(route.pattern, method, route)
            else:
                ordered.append((route.pattern, _effective(route, taken), route))
        # A path that says "/users" first cannot match one that says "/items", so most are not even tried.
        self._elsewhere = [entry for entry in ordered if _first_literal(entry[0]) is None]
        firsts = {first for entry in ordered if (first := _first_literal(entry[0])) is not None}
        self._by_first = {
            first: [entry for entry in ordered if _first_literal(entry[0]) in (None, first)] for first in firsts
        }
        # The longest first: of ":a:b" and ":b" the path that ends with both has the former.
        self._verbs = sorted((verb for verb in self._tries if verb), key=lambda verb: (-len(verb), verb))

    def match(self, method: str, raw_path: bytes) -> Result[T]:
        """What becomes of a request. ``raw_path``: as it was sent, percent escapes and all; a query is ignored.

        Raises PathError (400), also for paths that no route would match. A user's converter may raise what it likes.
        Takes time linear in the path's length, times the number of Starlette paths that begin with the same segment.
        """
        target = Target(raw_path.partition(b"?")[0])
        found = self._find(method, target)
        if found is not None:
            return found
        allow = self._allowed(target)
        if allow:
            return OptionsAnswer(allow) if method == "OPTIONS" else MethodNotAllowed(allow)
        other = target.with_other_ending()
        if other is not None and any(True for _ in self._starlette(other)):
            return Redirect(other.raw)
        return _NOT_FOUND

    def _find(self, method: str, target: Target) -> Found[T] | None:
        template = self._find_template(method, target)
        for methods, route, values in self._starlette(target):
            if method in methods or ANY_METHOD in methods:
                if template is None or route.rank < template.route.rank:
                    return Found(route, values)
                break
        return template

    def _find_template(self, method: str, target: Target) -> Found[T] | None:
        """Verbs first: who registers ``/{name=**}:verb`` means the verb, whatever else would take the whole segment."""
        for entries, segments in self._templates(target):
            found = entries.get(method) or (entries.get("GET") if method == "HEAD" else None) or entries.get(ANY_METHOD)
            if found is not None:
                template, route = found
                return Found(route, template.capture(target, segments))
        return None

    def _allowed(self, target: Target) -> tuple[str, ...]:
        """The methods of all routes that match the path; empty if none does."""
        methods = {method for entries, _ in self._templates(target) for method in entries}
        for taken, _, _ in self._starlette(target):
            methods |= taken
        if methods:
            methods |= {"OPTIONS", "HEAD"} if "GET" in methods else {"OPTIONS"}
        return tuple(sorted(methods))

    def _templates(self, target: Target) -> Iterator[tuple[dict[str, tuple[Template, Route[T]]], list[str]]]:
        segments = target.segments
        if self._verbs and segments and ":" in segments[-1]:
            for verb in self._verbs:
                if segments[-1].endswith(":" + verb):
                    without = [*segments[:-1], segments[-1][: -1 - len(verb)]]
                    for entries in self._tries[verb].search(target, without):
                        yield entries, without
        if "" in self._tries:
            for entries in self._tries[""].search(target, segments):
                yield entries, segments

    def _starlette(self, target: Target) -> Iterator[tuple[frozenset[str], Route[T], dict[str, Any]]]:
        if not self._by_first and not self._elsewhere:
            return
        first = target.starlette_text.split("/", 2)[1] if target.text else ""
        for path, methods, route in self._by_first.get(first, self._elsewhere):
            values = path.match(target)
            if values is not None:
                yield methods, route, values


def check_duplicates(routes: Iterable[Route[T]]) -> None:
    """Raises DuplicateRouteError, naming both, if two routes take the same method on the same paths."""
    _taken(routes)


def _taken(routes: Iterable[Route[T]]) -> dict[tuple[Shape, str], Route[T]]:
    """Which route has which method on which paths."""
    taken: dict[tuple[Shape, str], Route[T]] = {}
    for route in routes:
        for method in sorted(route.methods):
            other = taken.setdefault((route.shape, method), route)
            if other is not route:
                raise DuplicateRouteError(f"two routes take {method} on the same paths: {other}, and {route}")
    return taken


def _effective(route: Route[T], taken: dict[tuple[Shape, str], Route[T]]) -> frozenset[str]:
    """The methods with HEAD for GET, unless another route takes HEAD on the same paths."""
    if "GET" in route.methods and (route.shape, "HEAD") not in taken:
        return route.methods | {"HEAD"}
    return route.methods


def _first_literal(path: StarlettePath) -> str | None:
    """The first segment if it is literal."""
    start = path.parts[0]
    assert isinstance(start, str), "a path starts with '/'"
    segments = start.split("/")
    return segments[1] if len(segments) > 2 or len(path.parts) == 1 else None
