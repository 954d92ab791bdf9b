"""Starlette's dialect: ``/api/{user_id:int}/{rest:path}`` (``starlette.routing.compile_path``).

As in Starlette, except that it matches before ``%2F`` is decoded, that a trailing newline does not slip through
(Starlette's ``$`` lets it), and that braces which are no parameter are an error instead of literal text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fairlead.paths.converters import BUILTIN, Converter
from fairlead.paths.errors import PatternError, UnknownConverterError
from fairlead.paths.spans import spans
from fairlead.paths.target import Target

_PARAMETER: Final = re.compile("{([a-zA-Z_][a-zA-Z0-9_]*)(?::([a-zA-Z_][a-zA-Z0-9_]*))?}")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One ``{name:converter}``."""

    name: str
    converter: Converter


class StarlettePath:
    """A parsed path. Immutable."""

    def __init__(self, source: str, converters: Mapping[str, Converter] = BUILTIN) -> None:
        """``converters``: by the name after the colon. Raises PatternError, for unknown ones UnknownConverterError."""
        if not source.startswith("/"):
            raise PatternError(source, "a path starts with '/'")
        if not _encodable(source):
            raise PatternError(source, "a path is text that UTF-8 can carry")
        self.source = source
        self.parts = _parse(source, converters)
        """Literal text and parameters, in turn."""
        self.parameters: tuple[Parameter, ...] = tuple(part for part in self.parts if isinstance(part, Parameter))
        """The parameters in their order."""
        self._regex = _compile(source, self.parts)
        self.left_to_re = _at_most_one_each(self.parts) or any(not p.converter.language for p in self.parameters)
        """Whether ``re`` matches it: in linear time, but for a user's own converter, which nothing else can match."""

    def match(self, target: Target) -> dict[str, Any] | None:
        """The converted parameters, or None if the path is not one of these."""
        text = target.starlette_text
        captured = self._capture(text)
        if captured is None:
            return None
        values: dict[str, Any] = {}
        for parameter, piece in zip(self.parameters, captured, strict=True):
            language = parameter.converter.language
            several = language == "path" or (not language and "/" in piece)
            try:
                values[parameter.name] = parameter.converter.convert(
                    target.multi(piece) if several else target.single(piece)
                )
            except ValueError:
                return None
        return values

    def _capture(self, text: str) -> list[str] | None:
        if self.left_to_re:
            match = self._regex.fullmatch(text)
            return match and [match[parameter.name] for parameter in self.parameters]
        found = spans(
            text, [("", part) if isinstance(part, str) else (part.converter.language, "") for part in self.parts]
        )
        if found is None:
            return None
        return [
            text[start:end] for part, (start, end) in zip(self.parts, found, strict=True) if isinstance(part, Parameter)
        ]

    def __repr__(self) -> str:
        return f"StarlettePath({self.source!r})"


def _parse(source: str, converters: Mapping[str, Converter]) -> tuple[str | Parameter, ...]:
    parts: list[str | Parameter] = []
    names: set[str] = set()
    at = 0
    for found in _PARAMETER.finditer(source):
        name, kind = found[1], found[2] or "str"
        if kind not in converters:
            raise UnknownConverterError(source, f"there is no converter {kind!r}; there are {', '.join(converters)}")
        if name in names:
            raise PatternError(source, f"the parameter {name!r} stands there twice")
        names.add(name)
        parts += [_literal(source, source[at : found.start()]), Parameter(name, converters[kind])]
        at = found.end()
    parts.append(_literal(source, source[at:]))
    return tuple(part for part in parts if part != "")


def _literal(source: str, text: str) -> str:
    if "{" in text or "}" in text:
        raise PatternError(source, f"{text!r} has a brace but no parameter like {{name}} or {{name:converter}}")
    return text


def _compile(source: str, parts: tuple[str | Parameter, ...]) -> re.Pattern[str]:
    try:
        return re.compile(
            "".join(
                re.escape(part) if isinstance(part, str) else f"(?P<{part.name}>{part.converter.regex})"
                for part in parts
            )
        )
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError(source, f"a converter's regular expression does not fit: {error}") from error


def _at_most_one_each(parts: tuple[str | Parameter, ...]) -> bool:
    """Whether there is one parameter per segment and one ``path`` at most.

    Then a parameter's end is fixed by what is around it, and a regular expression that goes back finds nothing to try
    again: after each place where the ``path`` may end, the rest fails within as many segments as the pattern has.
    """
    in_segment = paths = 0
    for part in parts:
        if isinstance(part, str):
            in_segment = 0 if "/" in part else in_segment
        else:
            in_segment += 1
            paths += part.converter.language == "path"
            if in_segment > 1 or paths > 1:
                return False
    return True


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
