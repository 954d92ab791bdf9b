"""Browsers on other origins: their preflights, and what they may read, by Starlette's own middleware."""

import httpx
import pytest
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from fairlead_gateway.edge.binding import TcpListener
from fairlead_gateway.edge.http_door import HttpDoor
from fairlead_gateway.edge.web.envelopes import envelope
from tests.edge.fake_router import FakeRouter
from tests.edge.web.calls import SERVICE, echo_application, text

ORIGIN = "https://app.example.com"
CORS = Middleware(
    CORSMiddleware,
    allow_origins=[ORIGIN],
    allow_methods=["POST", "GET"],
    allow_headers=["content-type", "connect-protocol-version", "x-grpc-web"],
    expose_headers=["x-request-id"],
)


@pytest.fixture
async def client():
    router = FakeRouter(lambda call: call.end(None, call.payload))
    router.deploy(echo_application())
    door = HttpDoor(router, TcpListener(), middlewares=[CORS])
    address = await door.start()
    async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client:
        yield client
    await door.stop(1)


@pytest.mark.parametrize("header", ["x-grpc-web", "connect-protocol-version"])
async def test_a_preflight(client, header):
    asked = {"origin": ORIGIN, "access-control-request-method": "POST", "access-control-request-headers": header}
    answer = await client.options(f"/{SERVICE}/Echo", headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert header in answer.headers["access-control-allow-headers"]
    refused = await client.options(f"/{SERVICE}/Echo", headers={**asked, "origin": "https://evil.example.com"})
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize(
    ("content_type", "body"), [("application/grpc-web", envelope(0, text("x"))), ("application/proto", text("x"))]
)
async def test_a_call(client, content_type, body):
    headers = {"origin": ORIGIN, "content-type": content_type}
    answer = await client.post(f"/{SERVICE}/Echo", content=body, headers=headers)
    assert (answer.status_code, answer.content[: len(body)]) == (200, body)
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
