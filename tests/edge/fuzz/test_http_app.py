"""Any request gets one whole response that is no 500, from every kind of target."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings

from fairlead_gateway.edge.http import HttpApp
from fairlead_gateway.edge.http_limits import HttpLimits
from tests.edge.fuzz import requests, stage

PATIENCE_S = 60


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with asyncio.Runner() as runner:
        yield runner.get_loop()


@pytest.fixture(scope="module")
def app(loop: asyncio.AbstractEventLoop) -> HttpApp:
    async def make() -> HttpApp:
        return HttpApp(stage.router(), limits=HttpLimits(max_body_bytes=3000))

    return loop.run_until_complete(make())


def scope_of(method: str, path: str, query: str, headers: list[tuple[str, str]]) -> dict[str, Any]:
    """As uvicorn makes it."""
    raw = path.encode("latin-1", "replace")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw.decode("latin-1")),
        "raw_path": raw,
        "query_string": query.encode("latin-1", "replace"),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", 1234),
        "server": ("127.0.0.1", 80),
    }


async def play(app: HttpApp, scope: dict[str, Any], pieces: list[bytes]) -> stage.Responses:
    events = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces) - 1}
        for number, piece in enumerate(pieces)
    ]
    waiting = iter(events)

    async def receive() -> dict[str, Any]:
        return next(waiting, {"type": "http.disconnect"})

    responses = stage.Responses()
    await asyncio.wait_for(app(scope, receive, responses.send), PATIENCE_S)
    return responses


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(requests.requests, requests.cuts)
def test_any_request_has_one_whole_response(
    loop: asyncio.AbstractEventLoop, app: HttpApp, asked: requests.Request, cuts: list[int]
) -> None:
    scope = scope_of(asked.method, asked.path, asked.query, asked.headers)
    responses = loop.run_until_complete(play(app, scope, requests.pieces_of(asked.body, cuts)))
    assert responses.ended, responses.events
    assert responses.status is not None
    assert responses.status != 500, responses.events
    if responses.status >= 400:
        assert (b"content-type", b"application/json") in responses.events[0]["headers"], responses.events
        said = json.loads(b"".join(event["body"] for event in responses.events[1:]))
        assert said["code"], said
        assert said["message"], said
