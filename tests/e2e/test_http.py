"""The HTTP door of a real instance: applications by their prefix, handlers' values as responses, the built-in pages."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from fairlead import serve
from fairlead.serve.api import RunTarget
from tests.e2e.conftest import Ports
from tests.e2e.doors_app import Methods, Web, plain, streaming


@pytest.fixture(scope="module")
def web(ports: Ports) -> str:
    """The base URL of an instance with four applications, one of them without a route."""
    serve.run_many(
        [
            RunTarget(target=Web.bind(), name="web", route_prefix="/"),
            RunTarget(target=plain.bind(), name="plain", route_prefix="/plain"),
            RunTarget(target=streaming.bind(), name="streaming", route_prefix="/plain/stream"),
            RunTarget(target=Methods.bind(), name="methods", route_prefix=None),
        ]
    )
    return ports.http


@pytest.mark.parametrize(
    ("what", "status", "media_type", "body"),
    [
        ("text", 200, "text/plain", b"hello"),
        ("bytes", 200, "text/plain", b"\xff\0"),
        ("dict", 200, "application/json", b'{"a":[1,null]}'),
        ("number", 200, "application/json", b"1.5"),
        ("none", 200, "text/plain", b""),
        ("tuple", 200, "application/json", b"[1,true]"),
        ("int", 200, "application/json", b"5"),
        ("nested", 200, "application/json", b'{"b":"bytes","e":"text","m":{"x":1}}'),
        ("response", 418, "text/plain", b"teapot"),
        ("json", 200, "application/json", b"[1]"),
        ("stream", 200, "", b"0\n1\n2\n"),
        ("agenerator", 200, "text/plain", b"0\n1\n2\n"),
    ],
)
def test_what_handlers_return(what: str, status: int, media_type: str, body: bytes, web: str) -> None:
    answer = httpx.get(web, params={"what": what})
    assert (answer.status_code, answer.content) == (status, body)
    assert answer.headers.get("content-type", "").partition(";")[0] == media_type
    assert answer.headers["x-request-id"]
    if what == "response":
        assert answer.headers["x-kind"] == "short and stout"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_what_handlers_get(method: str, web: str) -> None:
    answer = httpx.request(
        method, f"{web}/some/pa%20th?what=request&b=%C3%BC", content="body", headers={"X-Mine": "x"}
    ).json()
    expected: dict[str, Any] = {
        "method": method,
        "path": "/some/pa th",
        "root_path": "",
        "query": {"what": "request", "b": "ü"},
        "header": "x",
        "body": "body",
    }
    assert answer | {"path": answer["path"].replace("%20", " ")} == expected


def test_bodies_of_the_classic_kinds(web: str) -> None:
    """By the page on calling endpoints: also with GET, which had a body there."""
    assert httpx.request("GET", web, params={"what": "json body"}, json={"a": [1]}).json() == {"a": [1]}
    assert httpx.request("GET", web, params={"what": "form"}, data={"a": "1"}).json() == {"a": "1"}
    assert httpx.request("GET", web, params={"what": "length"}, content=bytes(655_360)).json() == 655_360
    assert httpx.get(web, params={"what": "headers"}, headers={"X-CUSTOM-HEADER": "value"}).text == "value"


def test_the_longest_prefix_wins(web: str) -> None:
    assert httpx.get(f"{web}/plain").text == "no request wanted"
    assert httpx.get(f"{web}/plain/deeper").text == "no request wanted"
    assert httpx.get(f"{web}/plain/stream").text == "ab"
    assert httpx.get(f"{web}/plainer", params={"what": "text"}).text == "hello"


def test_routes(web: str) -> None:
    assert httpx.get(f"{web}/-/routes").json() == {"/": "web", "/plain": "plain", "/plain/stream": "streaming"}


def test_healthz(web: str) -> None:
    answer = httpx.get(f"{web}/-/healthz")
    assert (answer.status_code, answer.text) == (200, "success")


def test_back_pressure_keeps_its_status(web: str) -> None:
    answer = httpx.get(web, params={"what": "full"})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "3", "rounded up, as Ray Serve does"
    assert answer.json()["message"].startswith("Request dropped due to backpressure")


def test_head_and_keep_alive(web: str) -> None:
    with httpx.Client() as client:
        for _ in range(3):
            answer = client.head(web, params={"what": "text"})
            assert (answer.status_code, answer.content) == (200, b"")
            assert client.get(web, params={"what": "text"}).text == "hello"


def test_errors_are_500_without_a_traceback(web: str) -> None:
    answer = httpx.get(web, params={"what": "no such thing"})
    assert answer.status_code == 500
    assert "Traceback" not in answer.text
    assert answer.headers["x-request-id"]
