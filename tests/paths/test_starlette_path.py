import re
import uuid
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import compile_path

from fairlead.paths import BUILTIN, Converter, PatternError, StarlettePath, UnknownConverterError
from fairlead.paths.target import Target

UUID = "123e4567-e89b-12d3-a456-426614174000"
DATE = Converter(regex="[0-9]{4}-[0-9]{2}-[0-9]{2}", convert=date.fromisoformat)


@pytest.mark.parametrize(
    ("path", "raw", "values"),
    [
        ("/", b"/", {}),
        ("/", b"", None),
        ("/a", b"/a/", None),
        ("/api/{username}", b"/api/scaly", {"username": "scaly"}),
        ("/api/{username}", b"/api/", None),
        ("/api/{user_id:int}/{number:float}", b"/api/123/3.14", {"user_id": 123, "number": 3.14}),
        ("/api/{user_id:int}/{number:float}", b"/api/123/3", {"user_id": 123, "number": 3.0}),
        ("/api/{user_id:int}/{number:float}", b"/api/abc/3.14", None),
        ("/api/{user_id:int}/{number:float}", b"/api/-1/3.14", None),
        ("/api/{user_id:int}/{number:float}", b"/api/1/1e3", None),
        ("/{i:int}", b"/%31%32", {"i": 12}),
        ("/{i:int}", "/٣".encode(), None),  # a digit elsewhere, but not in [0-9]
        ("/{i:int}", b"/5%0A", None),
        ("/{i:int}", b"/5%0D%0A", None),
        ("/{i:int}", b"/" + b"9" * 5000, None),
        ("/{x:float}", b"/" + b"9" * 400, None),
        ("/{u:uuid}", f"/{UUID}".encode(), {"u": uuid.UUID(UUID)}),
        ("/{u:uuid}", UUID.replace("-", "").upper().join("/ ").strip().encode(), {"u": uuid.UUID(UUID)}),
        ("/{u:uuid}", f"/{UUID}0".encode(), None),
        ("/files/{rest:path}", b"/files/a/b/c", {"rest": "a/b/c"}),
        ("/files/{rest:path}", b"/files/", {"rest": ""}),
        ("/files/{rest:path}", b"/files", None),
        ("/files/{rest:path}", b"/files//a", {"rest": "/a"}),
        ("/files/{rest:path}", b"/files/a%2Fb/c%2f+%20", {"rest": "a%2Fb/c%2f+ "}),
        ("/files/{rest:path}", b"/files/a%0A", None),
        ("/files/{rest:path}.txt", b"/files/a/b.txt", {"rest": "a/b"}),
        ("/{one}", b"/a%2Fb", {"one": "a/b"}),
        ("/{one}", b"/a%2525", {"one": "a%25"}),
        ("/users/{u}:disable", b"/users/x:disable", {"u": "x"}),
        ("/users/{u}:disable", b"/users/x%3adisable", {"u": "x"}),
        ("/{a}-{b}", b"/1-2-3", {"a": "1-2", "b": "3"}),
        ("/{a:path}/{b:path}", b"/x/y/z", {"a": "x/y", "b": "z"}),
        ("/a b/é", b"/a%20b/%C3%A9", {}),
    ],
)
def test_matches_as_starlette_does(path: str, raw: bytes, values: dict[str, Any] | None) -> None:
    matched = StarlettePath(path).match(Target(raw))
    assert matched == values
    if matched is not None and values is not None:
        assert [type(value) for value in matched.values()] == [type(value) for value in values.values()]


@pytest.mark.parametrize(
    ("path", "raw", "values"),
    [
        ("/{day:date}", b"/2024-02-29", {"day": date(2024, 2, 29)}),
        ("/{day:date}", b"/2023-02-29", None),  # the regular expression takes it, the converter does not
        ("/{a:date}-{b:date}", b"/2024-01-01-2024-12-31", {"a": date(2024, 1, 1), "b": date(2024, 12, 31)}),
        ("/{any:rest}", b"/a/b%2Fc", {"any": "a/b%2Fc"}),
        ("/{any:rest}", b"/b%2Fc", {"any": "b/c"}),
    ],
)  # fmt: skip
def test_users_converters(path: str, raw: bytes, values: dict[str, Any] | None) -> None:
    converters = {**BUILTIN, "date": DATE, "rest": Converter(regex=".+", convert=str)}
    assert StarlettePath(path, converters).match(Target(raw)) == values


def test_other_errors_of_a_users_converter_are_the_callers() -> None:
    path = StarlettePath("/{x:odd}", {"odd": Converter(regex="a", convert={"b": 1}.__getitem__)})
    with pytest.raises(KeyError):
        path.match(Target(b"/a"))


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "starts with '/'"), ("a", "starts with '/'"), ("/{a}/{a}", "'a' stands there twice"),
        ("/{bad-name}", "brace"), ("/{", "brace"), ("/}", "brace"), ("/{}", "brace"), ("/{a:}", "brace"),
        ("/{a=*}", "brace"), ("/{{a}}", "brace"), ("/{a:nope}", "no converter 'nope'"), ("/\udc2f", "UTF-8"),
    ],
)  # fmt: skip
def test_refuses(path: str, problem: str) -> None:
    with pytest.raises(PatternError) as caught:
        StarlettePath(path)
    assert problem in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_an_unknown_converter_is_starlettes_assertion_error() -> None:
    with pytest.raises(AssertionError):
        compile_path("/{a:nope}")
    with pytest.raises(AssertionError) as caught:
        StarlettePath("/{a:nope}")
    assert isinstance(caught.value, UnknownConverterError)


@pytest.mark.parametrize("regex", ["(", "(?P<a>x)", "(?i)x", "[", r"\1("])
def test_a_converter_whose_regex_does_not_fit(regex: str) -> None:
    with pytest.raises(PatternError, match="does not fit"):
        StarlettePath("/{a:own}", {"own": Converter(regex=regex, convert=str)})


def test_starlette_lets_a_newline_slip_through_and_this_does_not() -> None:
    assert re.match(compile_path("/int/{i:int}")[0], "/int/5\n")
    assert StarlettePath("/int/{i:int}").match(Target(b"/int/5%0A")) is None


@given(st.text(alphabet=st.one_of(st.sampled_from("/{}:.intpah-_"), st.characters())))
def test_any_text_is_a_path_or_a_pattern_error(text: str) -> None:
    for source in (text, "/" + text):
        try:
            path = StarlettePath(source)
        except PatternError:
            continue
        assert path.source == source
        path.match(Target(b"/int/a-b"))
