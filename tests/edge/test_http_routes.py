"""The HTTP door with routes: which request reaches which method, and what is answered where none does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fairlead import serve
from fairlead.serve.graph import application_spec
from fairlead.serve.interface import interface_of
from fairlead.serve.routes.declaration import routed_method
from fairlead.v1 import control_pb2, http_pb2
from fairlead.wire.errors import BackPressureError, InvalidArgumentsError, MethodNotFoundError
from fairlead.wire.trust import Trust
from fairlead_gateway.edge import http_response
from fairlead_gateway.edge.access import Access
from fairlead_gateway.edge.http import HttpApp
from fairlead_replica import http
from fairlead_replica.routed.binding import Binding
from fairlead_replica.routed.problems import BadRequestError
from fairlead_replica.routed.responses import encode_result
from tests.edge.fake_router import FakeCall, FakeRouter, application


class Shop:
    @serve.route("/items/{number:int}", methods=["GET", "PUT"])
    def item(self, number: int, wide: bool = False) -> Any:
        return [number, wide]

    @serve.route("/items/{name}", methods=["DELETE"])
    def delete(self, name: str) -> Any:
        return name

    @serve.route("/files/{rest:path}")
    def files(self, rest: str) -> Any:
        return rest

    @serve.route("/")
    def root(self, tags: list[int] | None = None) -> Any:
        return tags


class WithHandler(Shop):
    def __call__(self) -> None: ...


BINDINGS: dict[tuple[str, str], Binding] = {}


def replica(call: FakeCall) -> None:
    """What a replica does, without one."""
    message = http_pb2.HttpRequest.FromString(call.payload)
    if not message.route:
        return call.end(None, http.encode_value(f"handler {message.path}"))
    routed = routed_method(Shop(), call.header.method)
    assert routed is not None
    made = BINDINGS.setdefault((call.header.method, message.route), Binding(routed, message.route))
    try:
        args, kwargs = made.bind(message, http.request_of(message))
    except BadRequestError as error:
        outcome = error.outcome()
        call.done = True
        return call.downstream.on_end(outcome, None)
    return call.end(None, encode_result(getattr(Shop(), call.header.method)(*args, **kwargs)))


def deployed(kind: Any = Shop, prefix: str = "/") -> control_pb2.ApplicationRoutes:
    app = application(route_prefix=prefix)
    interface = interface_of(kind)
    assert interface is not None
    app.deployments[0].interface.CopyFrom(interface)
    return app


class Reply:
    """What an ASGI application sent."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False
        self.pieces: list[bytes] = []

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.pieces.append(message.get("body", b""))
            self.body += self.pieces[-1]
            self.complete = not message.get("more_body", False)

    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    method: str,
    target: str | bytes,
    *,
    apps: list[control_pb2.ApplicationRoutes] | None = None,
    behave: Callable[[FakeCall], object] = replica,
    root_path: str = "",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
) -> Reply:
    """Sends a request to a door with these applications, in process."""
    router = FakeRouter(behave)
    router.deploy(*(apps or [deployed()]))
    app = HttpApp(router, root_path=root_path)
    raw, _, query = (target if isinstance(target, bytes) else target.encode()).partition(b"?")
    scope = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "http_version": "1.1",
        "path": unquote(raw.decode("ascii", "replace")),
        "raw_path": raw,
        "query_string": query,
        "headers": [(b"host", b"here:1"), *((k.encode(), v.encode()) for k, v in (headers or {}).items())],
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 80),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    reply = Reply()
    await app(scope, receive, reply.send)
    return reply


class TestMatching:
    @pytest.mark.parametrize(
        ("method", "target", "value"),
        [
            ("GET", "/items/7?wide=1", [7, True]),
            ("PUT", "/items/7", [7, False]),
            ("DELETE", "/items/a%2Fb%20c+d", "a/b c+d"),
            ("GET", "/files/a%2Fb/c", "a%2Fb/c"),
            ("GET", "/files/", ""),
            ("GET", "/", None),
            ("GET", "/?tags=1&tags=2", [1, 2]),
            ("GET", "/%69tems/3", [3, False]),
        ],
    )
    async def test_found(self, method: str, target: str, value: Any) -> None:
        reply = await ask(method, target)
        assert (reply.status, reply.json()) == (200, value)

    @pytest.mark.parametrize(
        ("method", "target", "status", "allow"),
        [
            ("POST", "/items/7", 405, "DELETE, GET, HEAD, OPTIONS, PUT"),
            ("POST", "/items/a", 405, "DELETE, OPTIONS"),
            ("OPTIONS", "/items/7", 204, "DELETE, GET, HEAD, OPTIONS, PUT"),
            ("GET", "/items/%0A", 405, "DELETE, OPTIONS"),
            ("GET", "/nothing", 404, None),
            ("GET", "/items/5/", 307, None),
            ("GET", "/items/", 404, None),
            ("GET", "/items%2F5", 404, None),
            ("GET", "/items/%", 400, None),
            ("GET", "/items/%ff", 400, None),
            ("GET", "/items/%2", 400, None),
        ],
    )
    async def test_not_found(self, method: str, target: str, status: int, allow: str | None) -> None:
        reply = await ask(method, target, headers={"x-request-id": "mine"})
        assert (reply.status, reply.headers.get("allow")) == (status, allow)
        if status >= 400:
            assert set(reply.json()) == {"code", "message", "details"}
        if status == 404:
            assert f"Path '{unquote(target)}' not found. Ping http://.../-/routes for" in reply.json()["message"]
            assert "/-/openapi.json" in reply.json()["message"]

    async def test_head(self) -> None:
        assert (await ask("HEAD", "/items/7")).status == 200

    async def test_head_waits_for_the_beginning_of_a_stream_only(self) -> None:
        calls: list[FakeCall] = []

        def behave(call: FakeCall) -> None:
            calls.append(call)
            call.message(http.encode_response(200, [(b"content-type", b"application/x-ndjson")], b"first\n"))

        reply = await ask("HEAD", "/items/7", behave=behave)
        assert (reply.status, reply.headers["content-type"]) == (200, "application/x-ndjson")
        assert (reply.complete, reply.body, "content-length" in reply.headers) == (True, b"", False)
        assert calls[0].cancelled.is_set()

    async def test_redirects_keep_prefix_and_query(self) -> None:
        apps = [deployed(prefix="/a b")]
        reply = await ask("PUT", "/a%20b/items/5/?x=1", apps=apps, root_path="/proxy")
        assert (reply.status, reply.headers["location"]) == (307, "http://here:1/proxy/a%20b/items/5?x=1")

    async def test_a_prefix_is_its_own_root(self) -> None:
        apps = [deployed(prefix="/app")]
        for target in ("/app", "/app/"):
            assert (await ask("GET", target, apps=apps)).status == 200
        assert (await ask("GET", "/app%2Fitems/5", apps=apps)).status == 404
        assert (await ask("GET", "/%61pp/items/5", apps=apps)).json() == [5, False]

    async def test_a_request_handler_takes_what_is_left(self) -> None:
        apps = [deployed(WithHandler)]
        assert (await ask("GET", "/items/5/", apps=apps)).body == b"handler /items/5/"
        assert (await ask("GET", "/else", apps=apps)).body == b"handler /else"
        assert (await ask("POST", "/items/5", apps=apps)).status == 405

    async def test_routes_of_another_deployment_leave_the_rest_to_the_ingress(self) -> None:
        app = application()
        other = app.deployments.add(name="Other", max_ongoing_requests=1)
        interface = interface_of(Shop)
        assert interface is not None
        other.interface.CopyFrom(interface)
        calls: list[tuple[str, str]] = []

        def behave(call: FakeCall) -> None:
            calls.append((call.header.deployment, call.header.method))
            replica(call)

        await ask("GET", "/items/1", apps=[app], behave=behave)
        await ask("GET", "/else", apps=[app], behave=behave)
        assert calls == [("Other", "item"), ("", "")]

    async def test_paths_of_derived_services_come_last(self) -> None:
        @serve.deployment
        class Predictor:
            @serve.route("/v1/predict", methods=["POST"])
            def predict(self, x: int) -> int:
                return x

            @serve.route("/v1/{name}", methods=["PUT", "POST"])
            def other(self, name: str) -> str:
                return name

        app = application()
        app.deployments[0].interface.CopyFrom(application_spec(Predictor.bind()).deployments[0].interface)
        calls: list[str] = []

        def behave(call: FakeCall) -> None:
            calls.append(call.header.method)
            call.end(InvalidArgumentsError("seen"))

        for path in ("/v1/predict", "/v1/other"):
            await ask("POST", path, apps=[app], behave=behave, body=b'{"x": 1, "name": "n"}')
        assert calls == ["predict", "other"]
        reply = await ask("GET", "/v1/predict", apps=[app])
        assert reply.headers["allow"] == "OPTIONS, POST, PUT"

    async def test_routes_follow_the_table(self) -> None:
        router = FakeRouter(replica)
        app = HttpApp(router)
        router.deploy(application())
        assert app._targets.of("default") is None
        router.deploy(deployed())
        first = app._targets.of("default")
        router.deploy(deployed())
        assert app._targets.of("default") is first
        router.deploy(deployed(WithHandler))
        second = app._targets.of("default")
        assert second is not None
        assert second is not first
        assert second.rest

    async def test_routes_that_cannot_be_served_leave_those_that_are(self, caplog: pytest.LogCaptureFixture) -> None:
        router = FakeRouter(replica)
        app = HttpApp(router)
        router.deploy(deployed())
        broken = deployed()
        broken.deployments[0].interface.http_routes.add(path="/{", http_methods=["GET"], method="item")
        router.deploy(broken)
        router.deploy(broken)
        assert app._targets.of("default") is not None
        assert caplog.text.count("cannot be served") == 1


async def test_the_page_is_for_everybody_and_the_document_for_those_with_a_token() -> None:
    router = FakeRouter(replica)
    router.deploy(deployed())
    app = HttpApp(router, access=Access(Trust.UNTRUSTED, token="secret"))
    for path, headers, status in (
        ("/-/docs", [], 200),
        ("/-/openapi.json", [], 401),
        ("/-/openapi.json", [(b"authorization", b"Bearer secret")], 200),
    ):
        reply = Reply()
        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "headers": headers}
        await app(scope, _nothing, reply.send)
        assert reply.status == status
    assert reply.json()["security"] == [{"token": []}]


async def _nothing() -> dict[str, Any]:
    return {"type": "http.request"}


class TestErrors:
    async def test_a_converter_that_refuses_a_request_handlers_path(self) -> None:
        app = deployed()
        for route in app.deployments[0].interface.http_routes:
            route.handler = True
        reply = await ask("GET", "/items/7", apps=[app], behave=lambda call: call.end(MethodNotFoundError("no route")))
        assert reply.status == 404

    async def test_problems(self) -> None:
        reply = await ask("GET", "/?tags=a")
        (_, violations) = reply.json()["details"]
        assert violations["fieldViolations"][0]["field"] == "query.tags[0]"
        assert reply.status == 400

    async def test_backpressure(self) -> None:
        reply = await ask("GET", "/", behave=lambda call: call.end(BackPressureError(2, 1, 429, 1.5)))
        assert (reply.status, reply.headers["retry-after"], reply.json()["code"]) == (429, "2", 8)

    async def test_what_the_users_code_raised_is_hidden(self) -> None:
        reply = await ask("GET", "/", behave=lambda call: call.end(ValueError("secret")))
        assert (reply.status, reply.json()["message"]) == (500, "Internal Server Error")

    async def test_large_bodies(self) -> None:
        reply = await ask("PUT", "/items/1", body=b"x" * (64 * 1024 * 1024 + 1))
        assert (reply.status, reply.headers["connection"], reply.json()["code"]) == (413, "close", 8)

    @pytest.mark.parametrize(
        ("media_type", "record"),
        [
            (b"application/x-ndjson", b'{"error":{"code":3,"message":"bad","details":['),
            (b"text/event-stream", b'event: error\ndata: {"error":{"code":3,'),
            (b"application/json", b""),
        ],
    )
    async def test_late_errors(self, media_type: bytes, record: bytes) -> None:
        def behave(call: FakeCall) -> None:
            call.message(http.encode_response(200, [(b"content-type", media_type)], b"first\n"))
            call.end(InvalidArgumentsError("bad"))

        reply = await ask("GET", "/", behave=behave)
        assert reply.body.startswith(b"first\n" + record)
        assert reply.complete is bool(record)

    async def test_silent_event_streams_get_comments(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http_response, "KEEP_ALIVE_S", 0.001)
        go_on = asyncio.Event()

        async def behave(call: FakeCall) -> None:
            call.message(http.encode_response(200, [(b"content-type", b"text/event-stream")], b"data: 1\n\n"))
            await go_on.wait()
            call.end(None, http_pb2.HttpResponse(body=b"data: 2\n\n").SerializeToString())

        class Watched(Reply):
            async def send(self, message: Any) -> None:
                await super().send(message)
                if self.pieces.count(http_response.COMMENT) == 3:
                    go_on.set()

        monkeypatch.setattr(f"{__name__}.Reply", Watched)
        reply = await ask("GET", "/", behave=behave)
        assert reply.body.replace(http_response.COMMENT, b"") == b"data: 1\n\ndata: 2\n\n"


PIECES = st.sampled_from(
    [b"/", b"items", b"files", b"%2F", b"%2f", b"%41", b"%", b"%zz", b"%ff", b"%C3%BC", b"%0A", b"+"]
)
TARGETS = st.lists(PIECES | st.integers(0, 99).map(lambda number: b"%d" % number), max_size=8).map(
    lambda pieces: b"/" + b"".join(pieces)
)
QUERIES = st.binary(max_size=20) | st.lists(
    st.sampled_from(["wide=1", "wide=no", "wide=maybe", "tags=1", "tags=x", "tags", "&", "=", "%zz", "a=%ff", "+"])
).map(lambda parts: "&".join(parts).encode())


@settings(max_examples=300)
@example(method="GET", target=b"/files", query=b"\x80")  # a redirect's location is ASCII
@given(st.sampled_from(["GET", "PUT", "DELETE", "HEAD", "POST", "OPTIONS", "BREW"]), TARGETS, QUERIES)
def test_any_target_has_one_clear_answer(method: str, target: bytes, query: bytes) -> None:
    reply = asyncio.run(ask(method, target + b"?" + query))
    assert reply.complete
    assert reply.status in (200, 204, 307, 400, 404, 405)
    if reply.status >= 400:
        assert set(reply.json()) == {"code", "message", "details"}
    assert (reply.status in (204, 405)) == ("allow" in reply.headers)
    if reply.status == 307:
        assert reply.headers["location"].startswith("http://here:1/")


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20))
def test_any_text_goes_through_a_path(text: str) -> None:
    reply = asyncio.run(ask("DELETE", f"/items/{quote(text, safe='')}"))
    assert (reply.status, reply.json()) == (200, text)
