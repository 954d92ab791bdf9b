"""A pattern, the methods it takes, and what it leads to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, Generic, TypeAlias, TypeVar

from fairlead.paths.errors import PatternError
from fairlead.paths.starlette_path import Parameter, StarlettePath
from fairlead.paths.template import Template

T = TypeVar("T")

ANY_METHOD: Final = "*"
"""The method of a route that takes every one: ``custom { kind: "*" }`` in http.proto, no methods in Starlette."""

Shape: TypeAlias = tuple[object, ...]
"""Equal for patterns that match the same paths."""

_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Z-]+")  # a token (RFC 9110 5.6.2), in upper case as in Starlette
_LITERAL, _ONE, _MANY = 0, 1, 2


class Route(Generic[T]):
    """One route. Immutable."""

    def __init__(self, pattern: StarlettePath | Template, methods: Iterable[str], target: T, *, name: str = "") -> None:
        """``methods``: at least one, in any case, or ANY_METHOD. ``name``: what errors call the route besides its path.

        Raises PatternError for what is not a method.
        """
        self.pattern = pattern
        self.methods = frozenset(method.upper() for method in methods)
        self.target = target
        self.name = name
        if not self.methods:
            raise PatternError(pattern.source, "a route takes one method at least")
        for method in self.methods:
            if not _METHOD.fullmatch(method):
                raise PatternError(pattern.source, f"{method!r} is not a HTTP method")
        self.shape: Shape = (
            _starlette_shape(pattern) if isinstance(pattern, StarlettePath) else _template_shape(pattern)
        )
        self.rank: tuple[Any, ...] = (
            _starlette_rank(pattern) if isinstance(pattern, StarlettePath) else _template_rank(pattern)
        )
        """Of two routes in different dialects that match a path, the one with the lower rank takes it: one with a verb
        first, then a literal before one segment before many, from left to right, then Starlette's."""

    def __str__(self) -> str:
        where = f" of {self.name}" if self.name else ""
        return f"{','.join(sorted(self.methods))} {self.pattern.source}{where}"

    def __repr__(self) -> str:
        return f"Route({self})"


def _by_segment(path: StarlettePath) -> list[list[str | Parameter]]:
    """A path's parts between the slashes of its literals."""
    segments: list[list[str | Parameter]] = [[]]
    for part in path.parts:
        if isinstance(part, Parameter):
            segments[-1].append(part)
            continue
        first, *others = part.split("/")
        segments[-1].append(first)
        segments.extend([other] for other in others)
    return [[part for part in segment if part != ""] for segment in segments[1:]]


def _starlette_shape(path: StarlettePath) -> Shape:
    shape: list[object] = []
    segments = _by_segment(path)
    *start, end = segments[-1] or [""]
    verb = ""
    if len(start) == 1 and isinstance(end, str) and end.startswith(":"):  # as a template's verb
        segments[-1], verb = start, end[1:]
    for segment in segments:
        kinds = [part if isinstance(part, str) else (part.converter.regex,) for part in segment]
        if len(segment) == 1 and isinstance(segment[0], str):
            shape.append(segment[0])
        elif len(kinds) == 1 and isinstance(segment[0], Parameter) and segment[0].converter.language == "str":
            shape.append(("*",))
        else:
            shape.append(("parts", *kinds))
    return (verb, () if shape == [("parts",)] else tuple(shape))


def _template_shape(template: Template) -> Shape:
    segments = [("**",) if s.many else ("*",) if s.literal is None else s.literal for s in template.segments]
    if template.verb and isinstance(segments[-1], str):  # the verb is a part of one certain path, however it is written
        return ("", (*segments[:-1], f"{segments[-1]}:{template.verb}"))
    return (template.verb, tuple(segments))


def _starlette_rank(path: StarlettePath) -> tuple[Any, ...]:
    segments = _by_segment(path)
    ranks = []
    for segment in segments:
        languages = {part.converter.language for part in segment if isinstance(part, Parameter)}
        ranks.append(_MANY if "path" in languages else _ONE if languages else _LITERAL)
    last = segments[-1]
    verb = len(last) > 1 and isinstance(last[-1], str) and last[-1].startswith(":")
    return (0 if verb else 1, tuple(ranks), 0)


def _template_rank(template: Template) -> tuple[Any, ...]:
    ranks = (_MANY if s.many else _ONE if s.literal is None else _LITERAL for s in template.segments)
    return (0 if template.verb else 1, tuple(ranks), 1)
