"""The door with a service of all four kinds before a fake router, and requests to it as clients write them."""

import base64
import contextlib
import functools
import json
from pathlib import Path

from fairlead_gateway.edge.web.envelopes import envelope
from tests.edge.test_http import served
from tests.edge.typed.schema import application, compiled

SERVICE = "web.v1.EchoService"
PROTO = Path(__file__).parent / "web_echo.proto"


@functools.cache
def descriptors():
    return compiled(PROTO.read_text(), "web_echo.proto")


def echo_application(name="web"):
    return application(name, deployment="Echo", service=SERVICE, descriptor_set=descriptors())


@contextlib.asynccontextmanager
async def door(behave=None, *, applications=None, **options):
    """``(client, router)``."""
    given = [echo_application()] if applications is None else applications
    async with served(behave or (lambda call: call.end(None, call.payload)), applications=given, **options) as parts:
        yield parts[0], parts[1]


def text(value):
    """An EchoRequest or EchoResponse with a text, as bytes."""
    data = value.encode()
    assert len(data) < 128
    return b"\x0a" + bytes([len(data)]) + data


def opened(body):
    """The envelopes of a response: pairs of flags and message."""
    found = []
    while body:
        length = int.from_bytes(body[1:5], "big")
        assert len(body) >= 5 + length, "a truncated envelope"
        found.append((body[0], body[5 : 5 + length]))
        body = body[5 + length :]
    return found


def trailers_of(message):
    """The trailers in the last envelope of gRPC-Web."""
    return dict(line.split(":", 1) for line in message.decode().split("\r\n") if line)


def decoded_text(body):
    """A body in base64 whose pieces are padded one by one."""
    groups = [body[begin : begin + 4] for begin in range(0, len(body), 4)]
    return b"".join(base64.b64decode(group) for group in groups)


async def grpc_web(client, method, *messages, content_type="application/grpc-web+proto", body=None, **headers):
    """A call by gRPC-Web: ``(response, messages, trailers)``."""
    fields = {"content-type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
    content = b"".join(envelope(0, message) for message in messages) if body is None else body
    response = await client.post(f"/{SERVICE}/{method}", content=content, headers=fields)
    assert response.status_code == 200, response.text
    raw = decoded_text(response.content) if "-text" in response.headers["content-type"] else response.content
    *entries, (flags, last) = opened(raw)
    assert flags == 0x80
    return response, entries, trailers_of(last)


async def connect_stream(client, method, *messages, codec="proto", body=None, **headers):
    """A call of a stream by Connect: ``(response, messages, end)``."""
    fields = {
        "content-type": f"application/connect+{codec}",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    content = b"".join(envelope(0, message) for message in messages) if body is None else body
    response = await client.post(f"/{SERVICE}/{method}", content=content, headers=fields)
    assert response.status_code == 200, response.text
    *entries, (flags, last) = opened(response.content)
    assert flags == 0x02
    return response, entries, json.loads(last)
