"""JSON of large messages is converted beside the event loop: others are answered in the meantime."""

import asyncio
import json
import threading

import pytest

from fairlead_gateway.edge.protojson import Decoder, Encoder
from fairlead_gateway.edge.typed import bodies
from fairlead_gateway.edge.typed.requests import RequestPlan
from tests.edge.typed.schema import SERVICE, message
from tests.edge.typed.transcoding import returns, served

TITLE = "x" * 100_000
LARGE = json.dumps({"title": TITLE}).encode()
CONNECT = {"connect-protocol-version": "1"}


class Gate:
    """Where conversions of large messages wait."""

    def __init__(self, patch):
        self.begun, self.opened = threading.Event(), threading.Event()
        for owner, name in (
            (RequestPlan, "message"),
            (bodies, "document"),
            (Decoder, "parse"),
            (Encoder, "transcoded"),
        ):
            patch.setattr(owner, name, self._holding(getattr(owner, name)))

    def _holding(self, convert):
        def held(*arguments):
            if any(isinstance(each, bytes) and len(each) >= len(TITLE) for each in arguments):
                self.begun.set()
                assert self.opened.wait(10), "nobody else was served"
            return convert(*arguments)

        return held


@pytest.fixture
def gate(monkeypatch):
    return Gate(monkeypatch)


def answer(title):
    """A behaviour: a book with this title, when the client has sent all it has."""
    answering = returns(message("Book", title=title))

    async def behave(call):
        if call.header.method.endswith(("AddBooks", "Chat")):
            await call.half_closed.wait()
        await answering(call)

    return behave


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        ("/v1/shelves/1/books", "application/json", LARGE),
        ("/v1/shelves/1/books:add", "application/x-ndjson", b"{}\n" + LARGE + b"\n"),
        ("/v1/shelves/1/books:add", "application/json", b"[{}," + LARGE + b"]"),
        (f"/{SERVICE}/CreateBook", "application/json", b'{"book":' + LARGE + b"}"),
        (f"/{SERVICE}/Chat", "application/connect+json", len(LARGE).to_bytes(5, "big") + LARGE),
    ],
)
async def test_of_requests(path, content_type, body, gate):
    async with served(behave=answer("a")) as (client, _):
        headers = {"content-type": content_type} | (CONNECT if path.startswith(f"/{SERVICE}") else {})
        late = asyncio.create_task(client.post(path, content=body, headers=headers))
        assert await asyncio.to_thread(gate.begun.wait, 60)
        assert (await client.get("/v1/shelves/1/books/2")).json() == {"title": "a"}
        gate.opened.set()
        whole = await late
        assert (whole.status_code, b"error" in whole.content) == (200, False)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/shelves/1/books/2"), ("GET", "/v1/books:watch"), ("POST", f"/{SERVICE}/GetBook")],
)
async def test_of_answers(method, path, gate):
    async with served(behave=answer(TITLE)) as (client, _):
        headers = {"content-type": "application/json"} | CONNECT
        late = asyncio.create_task(
            client.request(method, path, content=b"{}"[: 2 * (method == "POST")], headers=headers)
        )
        assert await asyncio.to_thread(gate.begun.wait, 60)
        assert (await client.get("/-/healthz")).status_code == 200
        gate.opened.set()
        assert TITLE.encode() in (await late).content
