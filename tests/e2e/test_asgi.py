"""ASGI applications, WebSockets, and the options of the HTTP door on a real instance."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from fairlead import serve
from fairlead.serve import api
from fairlead.serve.api import RunTarget
from tests.e2e.asgi_app import Marking, NoCall, Plain, Rooms, Shop, Stock
from tests.e2e.stage import Stage


@pytest.fixture(scope="module")
def web(state_directory: Any, stage: Stage) -> Iterator[str]:
    """The base URL of an instance with middlewares and limits."""
    middlewares = [
        Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"]),
        Middleware(Marking, "outermost"),
    ]
    options = {"port": 0, "middlewares": middlewares, "max_body_bytes": 100_000, "max_request_timeout_s": 20.0}
    serve.start(http_options=options, grpc_options={"port": 0})
    serve.run_many(
        [
            RunTarget(target=Shop.bind(Stock.bind(stage), stage), name="shop", route_prefix="/shop"),
            RunTarget(target=Plain.bind(), name="plain", route_prefix="/plain"),
            RunTarget(target=NoCall.bind(), name="nocall", route_prefix="/nocall"),
        ]
    )
    (gateway,) = api.instance_status().gateways
    yield f"http://{gateway.http_address}"
    serve.shutdown()


def ws(web: str, path: str) -> str:
    return web.replace("http", "ws", 1) + path


class TestFastApi:
    def test_endpoints_are_methods_of_a_replica(self, web: str) -> None:
        where = httpx.get(f"{web}/shop/where").json()
        assert where["pid"] == where["started_in"] != os.getpid()
        assert where["root_path"] == "/shop"
        answer = httpx.post(f"{web}/shop/orders", json={"name": "pen", "count": 3})
        assert (answer.status_code, answer.json()) == (201, {"order": {"name": "pen", "count": 3}, "left": 7})
        assert httpx.post(f"{web}/shop/orders", json={"count": "x"}).status_code == 422
        assert httpx.get(f"{web}/shop/nowhere").json() == {"detail": "Not Found"}
        assert httpx.get(f"{web}/shop/openapi.json").json()["servers"] == [{"url": "/shop"}]

    def test_streams_are_streamed(self, web: str, stage: Stage, key: str) -> None:
        with httpx.stream("GET", f"{web}/shop/lines", params={"key": key}) as answer:
            pieces = answer.iter_text()
            assert next(pieces) == "first\n"
            stage.open(key)
            assert "".join(pieces) == "second\n"

    def test_a_background_task_runs_after_the_response(self, web: str, stage: Stage, key: str) -> None:
        with httpx.Client() as client:
            for _ in range(2):  # the connection is free again, too
                assert client.get(f"{web}/shop/background", params={"key": key}).text == '"at once"'
        assert f"{key} done" not in stage.events()
        stage.open(key)
        stage.wait_for(f"{key} done", 2)

    @pytest.mark.parametrize("path", ["/shop/hang", "/plain/hang"])
    def test_leaving_cancels_the_handler_and_its_children(self, web: str, stage: Stage, key: str, path: str) -> None:
        headers = {"x-serve-call-method": "hang"} if path == "/plain/hang" else {}

        def leave(key: str, time_s: float) -> None:
            timeout = httpx.Timeout(60, read=time_s)
            with pytest.raises(httpx.ReadTimeout), httpx.Client(timeout=timeout) as client:
                client.get(f"{web}{path}", params={"key": key}, headers=headers)

        key = stage.meet_deadline("child of {} runs", key, leave)
        stage.wait_for(f"child of {key} ended")

    @pytest.mark.parametrize(
        ("field", "text"), [("x-request-timeout-seconds", "{:g}"), ("grpc-timeout", "{:.0f}m")], ids=["ours", "gRPC's"]
    )
    def test_a_time_that_is_over(self, web: str, stage: Stage, key: str, field: str, text: str) -> None:
        def call(key: str, time_s: float) -> None:
            value = text.format(time_s * 1000 if field == "grpc-timeout" else time_s)
            answer = httpx.get(f"{web}/shop/hang", params={"key": key}, headers={field: value, "x-request-id": "r"})
            assert (answer.status_code, answer.json()["code"]) == (408, 4)
            assert answer.json()["message"] == f"Request r timed out after {time_s}s."

        key = stage.meet_deadline("child of {} runs", key, call)
        stage.wait_for(f"child of {key} ended")

    def test_errors_show_nothing(self, web: str) -> None:
        answer = httpx.get(f"{web}/shop/raises")
        assert (answer.status_code, answer.text) == (500, "Internal Server Error")  # as the application answers


class TestWebSockets:
    def test_messages_both_ways(self, web: str, stage: Stage, key: str) -> None:
        with connect(ws(web, f"/shop/room?key={key}"), subprotocols=["chat"]) as room:  # type: ignore[list-item]
            assert room.subprotocol == "chat"
            for text in ("a", "abc"):
                room.send(text)
                assert room.recv() == f"{text}: {10 - len(text)}"
        stage.wait_for(f"{key} left with")

    def test_a_client_that_vanishes(self, web: str, stage: Stage, key: str) -> None:
        with connect(ws(web, f"/shop/room?key={key}")) as room:
            room.send("a")
            assert room.recv() == "a: 9"
            room.socket.shutdown(socket.SHUT_RDWR)
            stage.wait_for(f"{key} left with")

    @pytest.mark.parametrize(
        ("path", "status"),
        [("/shop/room?key=refused", 403), ("/shop/nowhere", 403), ("/plain", 400), ("/elsewhere", 404)],
    )
    def test_refusals(self, web: str, path: str, status: int) -> None:
        with pytest.raises(InvalidStatus) as refused, connect(ws(web, path)):
            pass
        assert refused.value.response.status_code == status

    def test_a_handler_that_fails(self, web: str, key: str) -> None:
        with connect(ws(web, f"/shop/room?key={key}")) as room:
            room.send(b"bytes where text is expected")
            with pytest.raises(ConnectionClosed):
                room.recv(timeout=60)
            assert room.close_code == 1011

    def test_a_replica_that_ends(self, web: str) -> None:
        serve.run(Rooms.bind(), name="rooms", route_prefix="/rooms")
        with connect(ws(web, "/rooms/")) as room:
            assert room.recv(timeout=60) == "welcome"
            serve.delete("rooms")
            with pytest.raises(ConnectionClosed):
                room.recv(timeout=60)
            assert room.close_code == 1012


class TestMiddlewares:
    @pytest.mark.parametrize("path", ["/shop/where", "/-/routes", "/nowhere"])
    def test_they_are_around_everything(self, web: str, path: str) -> None:
        answer = httpx.get(f"{web}{path}", headers={"origin": "https://example.org"})
        assert answer.headers["x-mark"] == "outermost"
        assert answer.headers["access-control-allow-origin"] == "*"

    def test_preflight(self, web: str) -> None:
        headers = {"origin": "https://example.org", "access-control-request-method": "GET"}
        answer = httpx.options(f"{web}/shop/where", headers=headers)
        assert (answer.status_code, answer.text) == (200, "OK")
        assert (answer.headers["access-control-allow-origin"], answer.headers["x-mark"]) == ("*", "outermost")


class TestPlainHandlers:
    @pytest.mark.parametrize("status", [100, 123, 199, 200, 204, 205, 304, 418, 599, 600, 999])
    def test_every_status_that_http_can_carry(self, web: str, status: int) -> None:
        with socket.create_connection((urlsplit(web).hostname, urlsplit(web).port)) as raw:
            request = f"GET /plain?status={status} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
            raw.sendall(request.encode())
            answer = b"".join(iter(lambda: raw.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        if status in (204, 205, 304):
            assert body == b""
        else:
            assert b"content-type: text/plain; charset=utf-8" in head.split(b"\r\n")
            assert b"Hello, world!" in body

    def test_a_status_of_one_hundred_and_twenty_three(self, web: str) -> None:
        connection = http.client.HTTPConnection(urlsplit(web).netloc)
        connection.request("GET", "/plain?status=123")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (123, b"Hello, world!")

    @pytest.mark.parametrize("status", [99, 101, 1000])
    def test_statuses_that_http_cannot_carry(self, web: str, status: int) -> None:
        answer = httpx.get(f"{web}/plain", params={"status": status})
        assert answer.status_code == 500
        assert answer.json() == {"code": 13, "message": "Internal Server Error", "details": []}

    @pytest.mark.parametrize(
        ("path", "method"),
        [
            ("/plain", "split"),
            ("/plain", "split_stream"),
            ("/plain", "split_error"),
            ("/shop/split", ""),
            ("/shop/split?stream=1", ""),
        ],
    )
    def test_fields_that_http_cannot_carry_are_500_on_a_sound_connection(
        self, web: str, path: str, method: str
    ) -> None:
        with contextlib.closing(http.client.HTTPConnection(urlsplit(web).netloc)) as connection:
            connection.request("GET", path, headers={"X-SERVE-CALL-METHOD": method} if method else {})
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("x-a")) == (500, None)
            assert json.loads(answer.read()) == {"code": 13, "message": "Internal Server Error", "details": []}
            kept = connection.sock
            connection.request("GET", "/plain?status=200")
            assert connection.getresponse().read() == b"Hello, world!"
            assert connection.sock is kept is not None

    @pytest.mark.parametrize(
        ("path", "verb", "method", "status", "text"),
        [
            ("/plain", "PUT", "other", 200, "other PUT"),
            ("/plain", "GET", "lines", 200, "ab"),
            ("/nocall", "GET", "hello", 200, "hello"),
            ("/plain", "GET", "fail", 500, '{"code":13,"message":"Internal Server Error","details":[]}'),
        ],
    )
    def test_the_header_that_names_a_method(
        self, web: str, path: str, verb: str, method: str, status: int, text: str
    ) -> None:
        answer = httpx.request(verb, f"{web}{path}", headers={"X-SERVE-CALL-METHOD": method})
        assert (answer.status_code, answer.text) == (status, text)

    def test_a_method_that_does_not_exist(self, web: str) -> None:
        answer = httpx.get(f"{web}/plain", headers={"X-SERVE-CALL-METHOD": "made_up"})
        assert answer.status_code == 500
        assert "'made_up' that does not exist" in answer.json()["message"]

    def test_bodies_over_the_limit(self, web: str) -> None:
        assert httpx.post(f"{web}/plain?status=200", content=bytes(100_000)).status_code == 200
        answer = httpx.post(f"{web}/plain?status=200", content=bytes(100_001))
        assert (answer.status_code, answer.json()["code"]) == (413, 8)
