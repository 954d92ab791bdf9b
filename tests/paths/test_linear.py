"""That a long path does no harm, by counting steps instead of seconds.

What Python does is counted by the lines it executes. What ``re`` does inside cannot be seen, so its backtracking is
played by a matcher that does the same and counts: each end of a parameter that is tried, and each character it takes.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import fairlead.paths as package
from fairlead.paths import Found, NotFound, PathRouter, Route, StarlettePath, Template
from fairlead.paths.starlette_path import Parameter
from fairlead.paths.target import Target

FOLDER = str(Path(package.__file__).parent)
MANY = 64_000


def lines_run(function: Callable[[], object]) -> int:
    """How many lines of the package a call executes."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace if frame.f_code.co_filename.startswith(FOLDER) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


TEMPLATES = PathRouter(
    [
        Route(Template(path), ["GET"], path)
        for path in ("/**", "/*/*/*/a", "/a/*/*/b", "/*/a/{x=**}", "/a/a/{x=a/**}", "/{x=**}:v", "/a/{x=*/*}:w:v")
    ]
)


@pytest.mark.parametrize("segment", [b"", b"a", b"b:v", b":", b"%20", b"%2F"])
@pytest.mark.parametrize("end", [b"", b"/a", b":v", b":w:v", b"/"])
def test_templates_take_as_many_steps_for_any_number_of_segments(segment: bytes, end: bytes) -> None:
    few, many = (b"/" + b"/".join([segment] * count) + end for count in (8, MANY))
    more = 3 * MANY if segment == b"%2F" else 10  # an escape that stays is put in its place by itself
    for method in ("GET", "POST"):
        steps = lines_run(lambda method=method: TEMPLATES.match(method, few))  # type: ignore[misc]
        assert lines_run(lambda method=method: TEMPLATES.match(method, many)) <= steps + more  # type: ignore[misc]


def test_the_steps_are_bounded_by_the_templates() -> None:
    # Each segment may be a literal or a wildcard: 2^10 ways through the tree, one for each template, and no more.
    every = ["/" + "/".join("a" if number >> bit & 1 else "*" for bit in range(10)) + "/end" for number in range(1024)]
    router = PathRouter(Route(Template(path), ["GET"], path) for path in every)
    assert router.match("GET", b"/a" * MANY) == NotFound()
    nodes = sum(2**depth for depth in range(12))
    assert lines_run(lambda: router.match("GET", b"/a" * MANY)) <= 30 * nodes
    # Few templates with many wildcards: as many steps as there are nodes, not a power of them.
    deep = PathRouter(Route(Template("/*" * count + "/end"), ["GET"], count) for count in range(200))
    assert lines_run(lambda: deep.match("GET", b"/end" * MANY)) <= 200 * 60


def test_64000_segments_are_captured() -> None:
    result = TEMPLATES.match("GET", b"/c" * MANY)
    assert isinstance(result, Found)
    assert result.route.target == "/**"
    result = TEMPLATES.match("GET", b"/c/a" + b"/c" * MANY)
    assert isinstance(result, Found)
    assert result.params == {"x": "/".join("c" * MANY)}
    for path in ("/{a:path}", "/{a:path}/{b:path}/{c}", "/{a}-{b:path}"):
        result = PathRouter([Route(StarlettePath(path), ["GET"], path)]).match("GET", b"/c-" * MANY)
        assert isinstance(result, Found)


AMBIGUOUS = [
    "/{a:path}/{b:path}/{c:path}x",
    "/{a}-{b}-{c}-{d}!",
    "/{a:path}{b:path}{c:path}!",
    "/{a:int}{b:int}{c:float}!",
]
AMBIGUOUS += ["/{a:float}{b:float}.{c:float}{d:int}!", "/{a:uuid}{b:path}{c:uuid}!", "/{a:path}-{b}/{c:path}!"]
SIMPLE = [
    "/{a:path}",
    "/{a:path}/x",
    "/{a:path}/{b}/{c}!",
    "/{a}/{b}/{c:path}!",
    "/a{a:path}/b{b}c/{c:int}!",
    "/{a:float}!",
]
SIMPLE += ["/{a}-x/{b:path}/a-{c:float}-b/{d:int}", "/-{a}-", "/{a:path}-/{b}", "/{a:int}/{b:path}.txt"]
PIECES = ["/", "-", "1", "1.", "/1", "/-", "a-", "/a", "/a/b1c/", "1-", "123e4567-e89b-12d3-a456-426614174000", "1.txt"]


def as_re_does(text: str, parts: tuple[str | Parameter, ...], at: int = 0) -> tuple[bool, int]:
    """Whether the pattern matches, and the steps of a matcher that goes back as ``re`` does: from the longest on."""
    if not parts:
        return at == len(text), 1
    part, rest = parts[0], parts[1:]
    if isinstance(part, str):
        fits, steps = as_re_does(text, rest, at + len(part)) if text.startswith(part, at) else (False, 0)
        return fits, steps + len(part)
    ends = list(ends_of(text, part.converter.language, at))
    steps = len(ends) + 1
    for end in ends:
        fits, more = as_re_does(text, rest, end)
        steps += more
        if fits:
            return True, steps
    return False, steps


def ends_of(text: str, language: str, at: int) -> range:
    """Where a parameter may end, the longest first. A float's fraction is left out, it only adds to its digits."""
    end = at
    while end < len(text) and (language == "path" or (text[end] != "/" if language == "str" else text[end].isdigit())):
        end += 1
    return range(end, at if language != "path" else at - 1, -1)


def is_simple(path: str) -> bool:
    return StarlettePath(path).left_to_re


def test_which_patterns_are_left_to_re() -> None:
    assert [path for path in SIMPLE + AMBIGUOUS if is_simple(path)] == SIMPLE


@pytest.mark.parametrize("path", SIMPLE)
@pytest.mark.parametrize("piece", PIECES)
def test_re_goes_back_in_linear_time_on_what_it_is_given(path: str, piece: str) -> None:
    for length in (200, 2000):
        text = "/" + (piece * length)[:length]
        assert as_re_does(text, StarlettePath(path).parts)[1] <= 30 * length


def test_re_would_not_on_the_others() -> None:
    assert as_re_does("/" + "-" * 200, StarlettePath("/{a}-{b}-{c}!").parts)[1] > 100 * 200


@pytest.mark.parametrize("path", AMBIGUOUS)
@pytest.mark.parametrize("piece", PIECES)
def test_the_others_take_linear_time_too(path: str, piece: str) -> None:
    pattern = StarlettePath(path)
    for length in (500, 4000):
        target = Target(("/" + (piece * length)[:length]).encode())
        assert lines_run(lambda target=target: pattern.match(target)) <= 60 * length  # type: ignore[misc]


@pytest.mark.parametrize("path", SIMPLE + AMBIGUOUS)
def test_the_longest_path_has_an_end(path: str) -> None:
    router = PathRouter([Route(StarlettePath(path), ["GET"], path)])
    for piece in ("/", "-", "1", "a-/"):
        router.match("GET", ("/" + (piece * MANY)[:MANY]).encode())
