"""Query strings: split, decoded strictly, and bound to the fields of a request's message."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from fairlead_gateway.edge.protojson import JsonRefused
from fairlead_gateway.edge.typed.parameters import ParameterSet

_MALFORMED = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_LONGEST_NAME = 80


def pairs(query: bytes) -> Iterator[tuple[str, str]]:
    """The parameters of a query string, a plus sign as a space. Raises JsonRefused for bad escapes and bad UTF-8."""
    for piece in query.split(b"&"):
        if piece:
            name, _, value = piece.partition(b"=")
            yield _decoded(name), _decoded(value)


def _decoded(raw: bytes) -> str:
    try:
        if b"+" in raw:
            raw = raw.replace(b"+", b" ")
        if b"%" in raw:
            if _MALFORMED.search(raw):
                raise JsonRefused("the query string has a malformed percent escape")
            raw = unquote_to_bytes(raw)
        return raw.decode()
    except UnicodeDecodeError as error:
        raise JsonRefused("the query string is not UTF-8") from error


class QueryBinder:
    """Binds the query of one binding. Used by one event loop.

    ``bound``: the field paths (.proto names) that the path or the body has; parameters must not mean them, nor what is
    in them. ``all_bound``: the body has every field. ``ignored``: names that may be there although they mean nothing.
    """

    def __init__(
        self,
        parameters: ParameterSet,
        bound: Iterable[tuple[str, ...]],
        *,
        all_bound: bool = False,
        ignored: Container[str] = (),
    ) -> None:
        self._parameters = parameters
        self._bound = tuple(bound)
        self._all_bound = all_bound
        self._ignored = ignored

    def bind(self, query: bytes, tree: dict[str, Any]) -> None:
        """Puts the query's parameters into the JSON of the message.

        Raises JsonRefused for a parameter that is unknown and not ignored, one that is bound elsewhere, one that is
        given twice and can hold one value, and one whose text is no value of its field.
        """
        given: set[tuple[str, ...]] = set()
        for name, text in pairs(query):
            found = self._parameters.find(name)
            if found is None:
                if name not in self._ignored:
                    raise ParameterRefused(name, "is unknown")
                continue
            parameter, key = found
            if self._all_bound or any(parameter.path[: len(bound)] == bound for bound in self._bound):
                if name in self._ignored:
                    continue
                raise ParameterRefused(name, "is bound by the path or the body, and cannot be given in the query")
            if not parameter.fields[-1].is_repeated:
                if parameter.path in given:
                    raise ParameterRefused(name, "is given twice")
                given.add(parameter.path)
            try:
                parameter.put(tree, parameter.value(text), key)
            except JsonRefused as refused:
                raise ParameterRefused(name, refused.problem) from refused


class ParameterRefused(JsonRefused):
    """A parameter of the query does not fit. ``path`` is its name, as it was given."""

    def __init__(self, name: str, problem: str) -> None:
        self._name = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"
        super().__init__(f"query parameter {self._name!r}: {problem}")

    @property
    def path(self) -> str:
        """See JsonRefused."""
        return self._name
