"""google.api.http's dialect: ``/v1/{name=shelves/*}/books:list`` (google/api/http.proto, "Path template syntax").

    Template = "/" Segments [ Verb ] ;
    Segments = Segment { "/" Segment } ;
    Segment  = "*" | "**" | LITERAL | Variable ;
    Variable = "{" FieldPath [ "=" Segments ] "}" ;
    FieldPath = IDENT { "." IDENT } ;
    Verb     = ":" LITERAL ;

``**`` stands last. "/" alone is taken too, as in grpc-gateway. A verb may contain colons, as there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from fairlead.paths.errors import PathError, PatternError
from fairlead.paths.target import Target, decode_wholly

_FIELD_PATH: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*(\.[a-zA-Z_][a-zA-Z0-9_]*)*")
_NOT_LITERAL: Final = re.compile(r"[*{}/?#\s\x00-\x1f\x7f]")
_WILDCARDS: Final = ("*", "**")


class Segment(NamedTuple):
    """One segment of a template."""

    literal: str | None
    """Its decoded text; None for a wildcard."""
    many: bool = False
    """Whether it is ``**``."""


class Variable(NamedTuple):
    """One ``{field.path=segments}``."""

    field_path: str
    start: int
    """Its first segment's place among the template's."""
    end: int
    """The place after its last segment; for one that ends with ``**``, the place after that."""
    many: bool
    """Whether its last segment is ``**``."""

    @property
    def single(self) -> bool:
        """Whether it takes exactly one segment, so that ``%2F`` in it is decoded (http.proto)."""
        return self.end - self.start == 1 and not self.many


class Template:
    """A parsed template. Immutable."""

    def __init__(self, source: str) -> None:
        """Raises PatternError."""
        self.source = source
        parser = _Parser(source)
        self.segments: tuple[Segment, ...] = tuple(parser.segments)
        self.variables: tuple[Variable, ...] = tuple(parser.variables)
        self.verb: str = parser.verb
        """The custom verb without its colon; empty if there is none."""
        self.needs_rest: bool = any(variable.many and variable.end - variable.start == 1 for variable in self.variables)
        """Whether a variable is nothing but ``**``: a capture is not empty, so then ``**`` must take something."""

    def capture(self, target: Target, segments: Sequence[str]) -> dict[str, str]:
        """The variables' text by field path, of a path's segments that match, without the verb."""
        values: dict[str, str] = {}
        for variable in self.variables:
            if variable.single:
                values[variable.field_path] = target.single(segments[variable.start])
            else:
                piece = "/".join(segments[variable.start : None if variable.many else variable.end])
                values[variable.field_path] = target.multi(piece)
        return values

    def __repr__(self) -> str:
        return f"Template({self.source!r})"


class _Parser:
    """One pass over a template; the result is in the attributes."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.segments: list[Segment] = []
        self.variables: list[Variable] = []
        self.verb = ""
        if not source.startswith("/"):
            raise self._error("a template starts with '/'")
        if source != "/":
            for piece in self._pieces():
                self._segment(piece)
        self._check_fields()

    def _error(self, problem: str) -> PatternError:
        return PatternError(self.source, problem)

    def _pieces(self) -> list[str]:
        """The segments as they are written, a variable in one piece; takes the verb off the last one."""
        pieces, start, inside = [], 1, False
        for at, character in enumerate(self.source):
            if character == "{":
                if inside:
                    raise self._error("a variable must not contain another one")
                inside = True
            elif character == "}":
                if not inside:
                    raise self._error("'}' without '{'")
                inside = False
            elif character == "/" and not inside and at:
                pieces.append(self.source[start:at])
                start = at + 1
            elif character == ":" and not inside:
                pieces.append(self.source[start:at])
                self.verb = self._checked_verb(self.source[at + 1 :])
                return pieces
        if inside:
            raise self._error("'{' without '}'")
        return [*pieces, self.source[start:]]

    def _checked_verb(self, verb: str) -> str:
        if not verb:
            raise self._error("there is no verb after ':'")
        if "/" in verb:
            raise self._error("a verb stands at the end; a colon elsewhere is written %3A")
        if _NOT_LITERAL.search(verb) or "%" in verb or not verb.isprintable():
            raise self._error(f"{verb!r} is not a verb")
        return verb

    def _segment(self, piece: str) -> None:
        if not piece.startswith("{"):
            return self._plain(piece)
        if not piece.endswith("}"):
            raise self._error(f"{piece!r} is not a whole segment")
        field_path, equals, pattern = piece[1:-1].partition("=")
        if not _FIELD_PATH.fullmatch(field_path):
            raise self._error(f"{field_path!r} is not the path of a field")
        start = len(self.segments)
        for part in pattern.split("/") if equals else ["*"]:
            self._plain(part)
        self.variables.append(Variable(field_path, start, len(self.segments), self.segments[-1].many))
        return None

    def _plain(self, piece: str) -> None:
        if self.segments and self.segments[-1].many:
            raise self._error("'**' must be the last segment")
        if piece in _WILDCARDS:
            self.segments.append(Segment(None, piece == "**"))
        elif not piece:
            raise self._error("a segment is empty")
        elif _NOT_LITERAL.search(piece):
            raise self._error(f"{piece!r} is neither a literal nor a whole wildcard or variable")
        elif ":" in piece:
            raise self._error("a verb stands outside of variables; a colon in a literal is written %3A")
        else:
            self.segments.append(Segment(self._decoded(piece)))

    def _decoded(self, piece: str) -> str:
        try:
            return decode_wholly(piece.encode())
        except UnicodeEncodeError as error:
            raise self._error("a template is text that UTF-8 can carry") from error
        except PathError as error:
            raise self._error(f"in {piece!r}: {error}") from error

    def _check_fields(self) -> None:
        bound: set[str] = set()
        for field_path in sorted(variable.field_path for variable in self.variables):
            if field_path in bound:
                raise self._error(f"the variable {field_path!r} is bound twice")
            names = field_path.split(".")
            for count in range(1, len(names)):
                outer = ".".join(names[:count])
                if outer in bound:
                    raise self._error(f"the variable {field_path!r} is a part of {outer!r}, which is bound too")
            bound.add(field_path)
