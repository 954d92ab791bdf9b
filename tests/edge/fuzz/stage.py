"""What is fuzzed: the HTTP door with every kind of target, before a fake router that answers well at once."""

from __future__ import annotations

from typing import Any

from fairlead.v1 import control_pb2, http_pb2, session_pb2
from tests.edge.fake_router import FakeCall, FakeRouter
from tests.edge.fake_router import application as plain
from tests.edge.typed.schema import application as typed
from tests.edge.web.calls import SERVICE, descriptors

_RESPONSE = http_pb2.HttpResponse(status=200, body=b"fine").SerializeToString()


def applications() -> list[control_pb2.ApplicationRoutes]:
    """A plain handler, routes of methods, and typed services."""
    routed = plain("routes", route_prefix="/routes")
    for path, methods in (("/users/{id:int}", ["GET", "PUT"]), ("/files/{rest:path}", ["GET"]), ("/{a}", ["POST"])):
        routed.deployments[0].interface.http_routes.add(path=path, http_methods=methods, method="m")
    echo = typed("web", route_prefix="/web", deployment="Echo", service=SERVICE, descriptor_set=descriptors())
    return [plain("plain", route_prefix="/plain"), routed, typed("books"), echo]


def answer(call: FakeCall) -> None:
    """Answers at once: one message where one is expected, two where a stream is."""
    if call.header.request_serialization == session_pb2.SERIALIZATION_PROTOBUF:
        if call.header.stream:
            call.message(b"")
            call.message(b"")
            call.end()
        else:
            call.end(None, b"")
    elif call.header.request_serialization == session_pb2.SERIALIZATION_HTTP:
        call.end(None, _RESPONSE)
    elif call.header.stream:
        call.message(b"1")
        call.end()
    else:
        call.end(None, b"1")


def router() -> FakeRouter:
    """On the running loop."""
    made = FakeRouter(answer)
    made.deploy(*applications())
    return made


class Responses:
    """What an application sends for one request, and whether it keeps to ASGI and to what a door may say."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.ended = False
        self.events: list[Any] = []

    async def send(self, event: Any) -> None:
        """ASGI's send."""
        self.events.append(event)
        assert not self.ended, "something after the end"
        if event["type"] == "http.response.start":
            assert self.status is None, "a second response"
            self.status = event["status"]
            for name, value in event["headers"]:
                assert isinstance(name, bytes)
                assert isinstance(value, bytes)
                assert name == name.lower()
                assert not {b"\r", b"\n", b"\0"} & {bytes((byte,)) for byte in value}
        else:
            assert event["type"] == "http.response.body"
            assert self.status is not None, "a body before its head"
            self.ended = not event.get("more_body", False)
