"""The tree against a matcher that is too naive to be wrong: it tries each template in every way and sorts what fits."""

import re
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.paths import DuplicateRouteError, Found, MethodNotAllowed, PathRouter, Route, Template

Piece: TypeAlias = tuple[str | None, list[str]]
"""The variable, if it is one, and the segments."""


class Spec(NamedTuple):
    """A template before it is written down."""

    pieces: list[Piece]
    verb: str
    method: str

    @property
    def segments(self) -> list[str]:
        return [segment for _, segments in self.pieces for segment in segments]

    def __str__(self) -> str:
        written = ("/".join(s) if name is None else f"{{{name}={'/'.join(s)}}}" for name, s in self.pieces)
        return "/" + "/".join(written) + (f":{self.verb}" if self.verb else "")


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    segments = draw(st.lists(st.sampled_from(["a", "b", "c", "*"]), max_size=4))
    if not segments or draw(st.booleans()):
        segments = [*segments, draw(st.sampled_from(["**", "*", "a"]))]
    pieces: list[Piece] = []
    while segments:
        size = draw(st.integers(1, len(segments)))
        pieces.append((f"v{len(pieces)}" if draw(st.booleans()) else None, segments[:size]))
        segments = segments[size:]
    return Spec(pieces, draw(st.sampled_from(["", "", "v", "w:v"])), draw(st.sampled_from(["GET", "POST", "*"])))


def matches(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(matches(pattern[1:], path[count:]) for count in range(len(path) + 1))
    if not path:
        return False
    fits = path[0] != "" if pattern[0] == "*" else unquote(path[0]) == pattern[0]
    return fits and matches(pattern[1:], path[1:])


def captures(spec: Spec, path: list[str]) -> dict[str, str] | None:
    values = {}
    for name, segments in spec.pieces:
        taken = path if segments[-1] == "**" else path[: len(segments)]
        path = path[len(taken) :]
        if name is None:
            continue
        raw = "/".join(taken)
        if len(segments) == 1 and segments != ["**"]:
            values[name] = unquote(raw)
        else:
            values[name] = "".join(p if p.upper() == "%2F" else unquote(p) for p in re.split("(%2[Ff])", raw))
        if not values[name]:
            return None
    return values


def candidates(spec: Spec, raw: str) -> dict[str, str] | None:
    path = [] if raw == "/" else raw[1:].split("/")
    if spec.verb:
        if not path or not path[-1].endswith(":" + spec.verb):
            return None
        path[-1] = path[-1][: -1 - len(spec.verb)]
    return captures(spec, path) if matches(spec.segments, path) else None


def preference(spec: Spec) -> tuple[int, list[int]]:
    return -len(spec.verb), [{"**": 2, "*": 1}.get(segment, 0) for segment in spec.segments]


paths = st.lists(
    st.sampled_from(["a", "b", "c", "a", "b", "%61", "", "a:v", ":v", "b:w:v", "%3Av", "c%2fa", "%2F", "+%20"]),
    max_size=5,
).map(lambda segments: "/" + "/".join(segments))


@settings(max_examples=400)
@given(st.lists(specs(), max_size=8), st.lists(paths, max_size=6), st.sampled_from(["GET", "HEAD", "POST", "PUT"]))
def test_finds_what_the_naive_matcher_finds(drawn: list[Spec], raws: list[str], method: str) -> None:
    registered: list[Route[Spec]] = []
    for spec in drawn:
        route = Route(Template(str(spec)), [spec.method], spec)
        try:
            PathRouter([*registered, route])
        except DuplicateRouteError:
            assert any((r.target.segments, r.target.verb) == (spec.segments, spec.verb) for r in registered)
        else:
            registered.append(route)
    router = PathRouter(registered)
    for raw in raws:
        fitting = [(spec, values) for r in registered if (values := candidates(spec := r.target, raw)) is not None]
        order = {"GET": ["GET", "*"], "HEAD": ["GET", "*"]}.get(method, [method, "*"])
        best = min(
            (
                (preference(spec), order.index(spec.method), spec, values)
                for spec, values in fitting
                if spec.method in order
            ),
            key=lambda entry: entry[:2],
            default=None,
        )
        result = router.match(method, raw.encode())
        if best is not None:
            assert isinstance(result, Found)
            assert (result.route.target, result.params) == best[2:]
        elif fitting:
            assert isinstance(result, MethodNotAllowed)
            assert set(result.allow) - {"HEAD", "OPTIONS"} == {spec.method for spec, _ in fitting}
        else:
            assert not isinstance(result, Found | MethodNotAllowed)
