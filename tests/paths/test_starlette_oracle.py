"""Starlette's own router, asked the same."""

from typing import Any
from urllib.parse import quote, unquote

from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.routing import Route as StarletteRoute
from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from fairlead.paths import (
    ANY_METHOD,
    DuplicateRouteError,
    Found,
    MethodNotAllowed,
    NotFound,
    OptionsAnswer,
    PathRouter,
    Redirect,
    Route,
    StarlettePath,
)

UUID = "123e4567-e89b-12d3-a456-426614174000"


class Endpoint:
    """Remembers the parameters it was called with."""

    def __init__(self) -> None:
        self.params: dict[str, Any] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.params = scope["path_params"]


@st.composite
def patterns(draw: st.DrawFn) -> str:
    parts = ["/"]
    for index in range(draw(st.integers(0, 4))):
        parts.append(draw(st.sampled_from(["", "", "a", "b", "-", ".", ":v", "é", "a b"])))
        if draw(st.booleans()):
            converter = draw(st.sampled_from(["", ":str", ":int", ":float", ":path", ":uuid"]))
            parts.append(f"{{p{index}{converter}}}")
        parts.append(draw(st.sampled_from(["/", "/", "/", "", "-"])))
    text = "".join(parts)
    return text[:-1] if len(text) > 1 and draw(st.booleans()) and not text.endswith("}") else text


paths = st.lists(
    st.sampled_from(["/", "/", "/", "a", "b", "-", ".", ":v", "é", "a b", "1", "23", "4.5", UUID, "+", "%"]), max_size=9
).map(lambda parts: "/" + "".join(parts))
methods = st.sampled_from([["GET"], ["POST"], ["GET", "PUT"], None])


def ask_starlette(routes: list[tuple[str, list[str] | None]], method: str, path: str) -> tuple[int, Any]:
    """The status and what goes with it: which route and its parameters for 200, the path for 307."""
    endpoints = [Endpoint() for _ in routes]
    router = Router(
        [
            StarletteRoute(path, endpoint, methods=taken)
            for (path, taken), endpoint in zip(routes, endpoints, strict=True)
        ]
    )
    scope = {"type": "http", "method": method, "path": path, "root_path": "", "query_string": b"", "scheme": "http"}
    scope |= {"headers": [(b"host", b"testserver")]}
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nobody reads the body")

    try:
        router(scope, receive, send).send(None)  # nothing in it waits
    except StopIteration:
        pass
    for index, endpoint in enumerate(endpoints):
        if endpoint.params is not None:
            return 200, (index, endpoint.params)
    location = dict(sent[0]["headers"]).get(b"location", b"").decode()
    return sent[0]["status"], unquote(location.removeprefix("http://testserver"))


@settings(max_examples=500)
@given(
    st.lists(st.tuples(patterns(), methods), max_size=5),
    st.lists(paths, max_size=6),
    st.sampled_from(["GET", "HEAD", "POST", "OPTIONS"]),
)
def test_answers_as_starlette_does(drawn: list[tuple[str, list[str] | None]], asked: list[str], method: str) -> None:
    routes: list[tuple[str, list[str] | None]] = []
    registered: list[Route[int]] = []
    for path, taken in drawn:
        route = Route(StarlettePath(path), taken or [ANY_METHOD], len(routes))
        try:
            PathRouter([*registered, route])
        except DuplicateRouteError:
            continue
        registered.append(route)
        routes.append((path, taken))
    router = PathRouter(registered)
    for path in asked:
        status, detail = ask_starlette(routes, method, path)
        result = router.match(method, quote(path, safe="/:+").encode())
        match result:
            case Found(route=route, params=params):
                assert (status, detail) == (200, (route.target, params))
            case Redirect(raw_path=raw):
                # Starlette leaves a percent sign in its Location as it is, so that a client decodes it once more.
                assert (status, detail) == (307, unquote(unquote(raw.decode())))
            case MethodNotAllowed():
                assert status == 405
            case OptionsAnswer():
                assert (status, method) == (405, "OPTIONS")
            case NotFound():
                assert status == 404
