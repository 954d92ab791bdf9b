from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.paths import (
    ANY_METHOD,
    DuplicateRouteError,
    Found,
    MethodNotAllowed,
    NotFound,
    OptionsAnswer,
    PathError,
    PathRouter,
    PatternError,
    Redirect,
    Route,
    StarlettePath,
    Template,
)


def starlette(path: str, *methods: str) -> Route[str]:
    return Route(StarlettePath(path), methods or ["GET"], path, name="starlette")


def template(path: str, *methods: str) -> Route[str]:
    return Route(Template(path), methods or ["GET"], path, name="template")


def found(router: PathRouter[str], raw: str, method: str = "GET") -> tuple[str, dict[str, Any]] | None:
    result = router.match(method, raw.encode())
    return (result.route.target, result.params) if isinstance(result, Found) else None


@pytest.mark.parametrize(
    ("path", "raw", "params"),
    [
        # The examples of google/api/http.proto.
        ("/v1/{name=messages/*}", "/v1/messages/123456", {"name": "messages/123456"}),
        ("/v1/messages/{message_id}", "/v1/messages/123456", {"message_id": "123456"}),
        ("/v1/users/{user_id}/messages/{message_id}", "/v1/users/me/messages/1", {"user_id": "me", "message_id": "1"}),
        ("/v1/messages/{m}/{sub.subfield}", "/v1/messages/1/foo", {"m": "1", "sub.subfield": "foo"}),
        # One segment is decoded wholly; several keep %2F as it was written, and nothing else (http.proto).
        ("/a/{x}/c", "/a/p%20q%2Fr/c", {"x": "p q/r"}),
        ("/a/{x=*}", "/a/%21%2B%2F%3A%3f%25", {"x": "!+/:?%"}),
        ("/a/{x=**}", "/a/%21%2B%2F%3A%3f%25", {"x": "!+%2F:?%"}),
        ("/a/{x=p/*/q/*}/c", "/a/p/foo%20foo/q/bar%2Fbar/c", {"x": "p/foo foo/q/bar%2Fbar"}),
        ("/a/{x=**}", "/a/one%2f", {"x": "one%2f"}),  # that it took but one does not matter
        ("/a/{x}", "/a/1+1", {"x": "1+1"}),
        ("/a/{x=**}", "/a/1+1/%2B", {"x": "1+1/+"}),
        ("/a/{x}", "/a/%2525", {"x": "%25"}),
        ("/a/{x}", "/a/%E2%82%AC", {"x": "€"}),
        ("/a%20b/{x=lit}", "/a%20b/l%69t", {"x": "lit"}),
        ("/a@b", "/a%40b", {}),
        # Captures are not empty; what is no capture may be.
        ("/a/{x}", "/a/", None),
        ("/a/{x}", "/a", None),
        ("/a/*", "/a/", None),
        ("/a/{x=**}", "/a/", None),
        ("/a/{x=**}", "/a", None),
        ("/{x=**}", "/", None),
        ("/a/**", "/a", {}),
        ("/a/**", "/a/", {}),
        ("/a/**", "/a/b/c", {}),
        ("/a/**", "/ab", None),
        ("/**", "/", {}),
        ("/", "/", {}),
        ("/", "/a", None),
        ("/{x=a/**}", "/a", {"x": "a"}),
        ("/a/{x=**}", "/a/b//c/", {"x": "b//c/"}),
        ("/c/*/d/**", "/c//d/e", None),
        # No slash is forgiven, and the match is full.
        ("/a/b", "/a/b/", None),
        ("/a/b", "//a/b", None),
        ("/a/b", "/a/b%0A", None),
        ("/a/b", "/a%2Fb", None),
        ("/a/b", "/A/b", None),
        ("/a%2Fb", "/a%2fb", {}),
        # Verbs.
        ("/a/{x}:cancel", "/a/1:cancel", {"x": "1"}),
        ("/a/{x}:cancel", "/a/1:2:cancel", {"x": "1:2"}),
        ("/a/{x}:cancel", "/a/1%3Acancel", None),
        ("/a/{x}:cancel", "/a/1", None),
        ("/a/{x}:cancel", "/a/:cancel", None),
        ("/a/{x}:cancel", "/a/1:cancel/", None),
        ("/a/{x}:cancel", "/a/1:CANCEL", None),
        ("/a/{x}", "/a/bar:123", {"x": "bar:123"}),
        ("/a/{x=**}:v", "/a/b/c:v", {"x": "b/c"}),
        ("/a/{x=**}:v", "/a:v", None),
        ("/a/**:v", "/a:v", {}),
        ("/a:b:c", "/a:b:c", {}),
        ("/{x}:b:c", "/a:b:c", {"x": "a"}),
    ],
)
def test_one_template(path: str, raw: str, params: dict[str, str] | None) -> None:
    assert found(PathRouter([template(path)]), raw) == (None if params is None else (path, params))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("paths", "raw", "expected"),
    [
        (["/a/**", "/a/*", "/a/b"], "/a/b", "/a/b"),
        (["/a/**", "/a/*", "/a/b"], "/a/c", "/a/*"),
        (["/a/**", "/a/*", "/a/b"], "/a/c/d", "/a/**"),
        (["/*/b", "/a/*"], "/a/b", "/a/*"),  # from left to right
        (["/a/*/c", "/*/b/d"], "/a/b/d", "/*/b/d"),  # goes back out of /a
        (["/a/b/c/d", "/a/*/c/e", "/**"], "/a/b/c/e", "/a/*/c/e"),
        (["/a/b/c/d", "/a/*/c/e", "/**"], "/a/b/c/f", "/**"),
        (["/a/{x=**}", "/**"], "/a/", "/**"),  # goes back from what would be empty
        (["/a", "/a/**"], "/a", "/a"),
        (["/c/*/d/**", "/c/*/d/e", "/c/f/d/e"], "/c/x/d/e", "/c/*/d/e"),
        (["/{a=**}:v", "/{a=**}"], "/x:v", "/{a=**}:v"),
        (["/{a=**}:v", "/{a=**}"], "/x:w", "/{a=**}"),
        (["/person", "/person/{id}", "/{x=**}:v"], "/person/jason:v", "/{x=**}:v"),
        (["/person", "/person/{id}", "/{x=**}:v"], "/person/jason:other", "/person/{id}"),
        (["/a/{x}", "/b/{x}:v"], "/a/1:v", "/a/{x}"),  # a verb elsewhere changes nothing here
        (["/{x}:b:c", "/{x}:c"], "/a:b:c", "/{x}:b:c"),
        (["/{x}:b:c", "/{x}:c"], "/a:d:c", "/{x}:c"),
        (["/a%3Av", "/*"], "/a:v", "/a%3Av"),
    ],
)
def test_which_of_several_templates(paths: list[str], raw: str, expected: str, reverse: bool) -> None:
    router = PathRouter(template(path) for path in (reversed(paths) if reverse else paths))
    result = found(router, raw)
    assert result is not None
    assert result[0] == expected


def test_the_method_is_inside_the_search() -> None:
    router = PathRouter([template("/a/b", "GET"), template("/a/{x}", "POST"), template("/**", "DELETE")])
    assert found(router, "/a/b") == ("/a/b", {})
    assert found(router, "/a/b", "POST") == ("/a/{x}", {"x": "b"})
    assert found(router, "/a/b", "DELETE") == ("/**", {})
    assert router.match("PUT", b"/a/b") == MethodNotAllowed(("DELETE", "GET", "HEAD", "OPTIONS", "POST"))


def test_allow_is_the_union_of_both_dialects() -> None:
    router = PathRouter([template("/a/{x}:v", "PATCH"), starlette("/a/{y}", "PUT"), starlette("/a/{y:path}", "GET")])
    assert router.match("POST", b"/a/1:v") == MethodNotAllowed(("GET", "HEAD", "OPTIONS", "PATCH", "PUT"))
    assert router.match("POST", b"/a/1") == MethodNotAllowed(("GET", "HEAD", "OPTIONS", "PUT"))
    assert router.match("OPTIONS", b"/a/1/2") == OptionsAnswer(("GET", "HEAD", "OPTIONS"))
    assert router.match("OPTIONS", b"/b") == NotFound()


@pytest.mark.parametrize("make", [starlette, template])
def test_head_follows_get_and_options_its_own_route(make: Any) -> None:
    router = PathRouter([make("/a"), make("/b", "HEAD"), make("/b", "GET"), make("/c", "POST"), make("/d", "OPTIONS")])
    assert found(router, "/a", "HEAD") == ("/a", {})
    head = router.match("HEAD", b"/b")
    assert isinstance(head, Found)
    assert head.route.methods == {"HEAD"}
    assert router.match("HEAD", b"/c") == MethodNotAllowed(("OPTIONS", "POST"))
    assert found(router, "/d", "OPTIONS") == ("/d", {})
    assert router.match("get", b"/a") == MethodNotAllowed(("GET", "HEAD", "OPTIONS"))


def test_any_method_is_the_last_resort_of_a_template() -> None:
    router = PathRouter([Route(Template("/a"), [ANY_METHOD], "any"), template("/a", "GET")])
    assert found(router, "/a") == ("/a", {})
    assert found(router, "/a", "HEAD") == ("/a", {})
    assert found(router, "/a", "OPTIONS") == ("any", {})
    assert found(router, "/a", "BREW") == ("any", {})


def test_of_starlettes_paths_the_first_wins() -> None:
    assert found(PathRouter([starlette("/u/{name}"), starlette("/u/me")]), "/u/me") == ("/u/{name}", {"name": "me"})
    assert found(PathRouter([starlette("/u/me"), starlette("/u/{name}")]), "/u/me") == ("/u/me", {})


@pytest.mark.parametrize(
    ("first", "second", "raw", "expected"),
    [
        (starlette("/a/{x}"), template("/a/b"), "/a/b", "/a/b"),
        (starlette("/a/b"), template("/a/{x}"), "/a/b", "/a/b"),
        (starlette("/a/{x:int}"), template("/a/{x}"), "/a/1", "/a/{x:int}"),
        (starlette("/a/{x:int}"), template("/a/{x}"), "/a/b", "/a/{x}"),
        (starlette("/a/{x:path}"), template("/a/{x}"), "/a/b", "/a/{x}"),
        (starlette("/a/{x:path}"), template("/a/{x}"), "/a/b/c", "/a/{x:path}"),
        (starlette("/a/{x}"), template("/a/{x}:v"), "/a/b:v", "/a/{x}:v"),
        (starlette("/a/{x}:v"), template("/**:v"), "/a/b:v", "/a/{x}:v"),
        (starlette("/a"), template("/a/**"), "/a", "/a"),
    ],
)
def test_between_the_dialects(first: Route[str], second: Route[str], raw: str, expected: str) -> None:
    for routes in ([first, second], [second, first]):
        result = found(PathRouter(routes), raw)
        assert result is not None
        assert result[0] == expected


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (template("/a"), template("/a")),
        (template("/a/{x}"), template("/a/*")),
        (template("/a/{x=b/*}/**"), template("/a/b/{y}/{z=**}")),
        (template("/{x}:v"), template("/{y}:v")),
        (template("/%61"), template("/a")),
        (template("/a", "GET", "POST"), template("/a", "post")),
        (starlette("/a/{x}"), starlette("/a/{y:str}")),
        (starlette("/{x:int}-{y}"), starlette("/{y:int}-{z}")),
        (starlette("/{x:path}"), starlette("/{y:path}")),
        (starlette("/a/{x}"), template("/a/{x}")),
        (starlette("/"), template("/")),
        (template("/b/c"), starlette("/b/c")),
        (template("/b/c:v"), starlette("/b/c:v")),
        (starlette("/a/{x}:v"), template("/a/{y}:v")),
    ],
)
def test_duplicates_are_refused_and_both_named(first: Route[str], second: Route[str]) -> None:
    with pytest.raises(DuplicateRouteError) as caught:
        PathRouter([template("/other"), first, second])
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)
    assert first.name in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (template("/a"), template("/a", "POST")),
        (template("/a/*"), template("/a/**")),
        (template("/a/*"), template("/a/*:v")),
        (template("/a%2Fb"), template("/a/b")),
        (starlette("/a/{x}"), starlette("/a/{x:int}")),
        (starlette("/a"), starlette("/a/")),
        (starlette("/{x}-{y}"), starlette("/{x}")),
        (starlette("/a/{x:path}"), template("/a/{x=**}")),
        (starlette("/a/{x:int}:v"), template("/a/{x}:v")),
        (starlette("/a/{x}v"), template("/a/{x}:v")),
        (template("/a/b:v"), template("/a/*:v")),
    ],
)
def test_not_duplicates(first: Route[str], second: Route[str]) -> None:
    assert len(PathRouter([first, second]).routes) == 2


@pytest.mark.parametrize(
    ("path", "raw", "to"),
    [
        ("/a/{x:float}", b"/a/3.14/", b"/a/3.14"),
        ("/a/{x:float}", b"/a/3%2e14/", b"/a/3%2e14"),
        ("/a/{x:float}", b"/a/3.14//?q=/", b"/a/3.14"),
        ("/a/", b"/a", b"/a/"),
        ("/a/{x}/", b"/a/%2F", b"/a/%2F/"),
        ("/", b"", b"/"),
        ("/{x:path}/", b"//evil.example", b"//evil.example/"),
    ],
)
def test_starlettes_slashes_are_redirected(path: str, raw: bytes, to: bytes) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        assert PathRouter([starlette(path)]).match(method, raw) == Redirect(to)


def test_templates_are_not_redirected_to() -> None:
    router = PathRouter([template("/a"), template("/b/{x}"), template("/**:v")])
    for raw in (b"/a/", b"/b/1/", b"/a//", b"/c", b"/", b"//", b""):
        assert router.match("GET", raw) == NotFound()


def test_a_template_takes_what_a_redirect_would() -> None:
    assert found(PathRouter([starlette("/a"), template("/a/**")]), "/a/") == ("/a/**", {})


def test_no_routes() -> None:
    for raw in (b"/", b"", b"/a/b"):
        assert PathRouter[str]().match("GET", raw) == NotFound()


@pytest.mark.parametrize("methods", [[], [""], ["GET,POST"], ["GE T"], ["É"]])
def test_methods_that_are_none(methods: list[str]) -> None:
    with pytest.raises(PatternError):
        Route(Template("/a"), methods, None)


def test_a_bad_path_is_refused_even_where_no_route_would_match() -> None:
    for routes in ([], [template("/a")], [starlette("/a")]):
        for raw in (b"/%zz", b"/b/%", b"/%ff", b"b"):
            with pytest.raises(PathError):
                PathRouter(routes).match("GET", raw)


EVERYTHING = PathRouter(
    [
        starlette("/{a}-{b}.{c:int}/{d:path}/{e:path}", "GET", "PUT"),
        starlette("/{x:int}", "POST"),
        starlette("/{x:float}/{y:uuid}/", ANY_METHOD),
        starlette("/a/{rest:path}"),
        template("/a/{x=b/*/c}/{y.z=**}:verb", "PATCH"),
        template("/{x=**}:v", "POST"),
        template("/*/b/**"),
        template("/**", "DELETE"),
    ]
)
pieces = st.sampled_from(["/", "a", "b", "c", "-", ".", "1", ":v", ":verb", "%2F", "%3A", "%0a", "%", "?", "é"])


@given(
    st.one_of(st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "DELETE"]), st.text()),
    st.one_of(st.binary(), st.lists(pieces).map(lambda parts: ("/" + "".join(parts)).encode())),
)
def test_any_method_and_any_bytes_have_a_result_or_are_a_path_error(method: str, raw: bytes) -> None:
    try:
        result = EVERYTHING.match(method, raw)
    except PathError:
        return
    if isinstance(result, Found):
        assert all(value != "" for name, value in result.params.items() if isinstance(result.route.pattern, Template))
        assert "\udc2f" not in repr(result.params)
