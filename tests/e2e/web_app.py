"""A service of all four kinds for test_web_clients, known by a descriptor set alone."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message_factory
from google.rpc import status_pb2

from fairlead import serve
from fairlead_gateway.edge.typed.descriptors import pool_of
from tests.edge.typed.schema import compiled

PROTO = Path(__file__).parents[1] / "edge" / "web" / "web_echo.proto"
DESCRIPTORS = compiled(PROTO.read_text(), PROTO.name)
Reason = message_factory.GetMessageClass(pool_of(DESCRIPTORS).FindMessageTypeByName("web.v1.Reason"))


@serve.deployment(max_ongoing_requests=50)
@serve.grpc_service(DESCRIPTORS)
class Echo:
    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.released: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def Echo(self, request: Any, grpc_context: Any) -> Any:
        if request.text == "missing":
            missing(grpc_context)
        if request.text == "crash":
            raise ZeroDivisionError("secret")
        if request.text.startswith("sleep "):
            await self.until_cancelled(request.text.removeprefix("sleep "))
        if request.text.startswith("release "):
            self.released[request.text.removeprefix("release ")].set()
        metadata = dict(grpc_context.invocation_metadata())
        await grpc_context.send_initial_metadata((("x-first", metadata.get("x-own", "")),))
        told = (("x-told", metadata.get("x-own", "")), ("told-bin", metadata.get("own-bin", b"")))
        grpc_context.set_trailing_metadata(told)
        return {"text": request.text, "number": request.number}

    def Look(self, request: Any) -> Any:
        """How often calls of a key were cancelled."""
        return {"text": request.text, "number": self.cancelled.count(request.text)}

    async def Count(self, request: Any, grpc_context: Any) -> Any:
        await grpc_context.send_initial_metadata((("x-first", request.text), ("first-bin", b"\x01")))
        if request.text.startswith("hold "):
            await self.released[request.text.removeprefix("hold ")].wait()
        if request.text == "missing":
            missing(grpc_context)
        if request.text.startswith("tick "):
            for number in range(2):
                yield {"text": str(number)}
            await self.until_cancelled(request.text.removeprefix("tick "))
        for number in range(request.number):
            yield {"text": f"{request.text}{number}"}
        if request.text == "fail":
            grpc_context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough – really")

    async def Join(self, requests: Any) -> Any:
        return {"text": "+".join([request.text async for request in requests])}

    async def Chat(self, requests: Any) -> Any:
        async for request in requests:
            yield {"text": request.text.upper()}

    def greet(self, name: str) -> str:
        """No RPC: for ServingService."""
        return f"hello {name}"

    async def until_cancelled(self, key: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.append(key)


def missing(grpc_context: Any) -> None:
    status = status_pb2.Status(code=grpc.StatusCode.NOT_FOUND.value[0], message="no such thing")
    status.details.add().Pack(Reason(why="it never was"))
    grpc_context.abort_with_status(status)
