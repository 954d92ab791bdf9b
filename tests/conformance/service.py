"""The service of Connect's conformance suite, as its .proto describes it. The compiled files are on ``sys.path``."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterable
from typing import Any

from connectrpc.conformance.v1 import service_pb2 as pb  # type: ignore[import-not-found]  # compiled by run.py
from google.rpc import status_pb2

from fairlead import serve

SERVICE = "connectrpc.conformance.v1.service_pb2_grpc.add_ConformanceServiceServicer_to_server"


@serve.deployment(max_ongoing_requests=100)
@serve.grpc_service(SERVICE)
class Conformance:
    async def Unary(self, request: Any, grpc_context: Any) -> Any:
        return await _single(grpc_context, request.response_definition, [request], pb.UnaryResponse)

    async def IdempotentUnary(self, request: Any, grpc_context: Any) -> Any:
        return await _single(grpc_context, request.response_definition, [request], pb.IdempotentUnaryResponse)

    async def ClientStream(self, requests: AsyncIterator[Any], grpc_context: Any) -> Any:
        got = [request async for request in requests]
        definition = got[0].response_definition if got else pb.UnaryResponseDefinition()
        return await _single(grpc_context, definition, got, pb.ClientStreamResponse)

    async def ServerStream(self, request: Any, grpc_context: Any) -> AsyncIterator[Any]:
        async for payload in _several(grpc_context, request.response_definition, [request]):
            yield pb.ServerStreamResponse(payload=payload)

    async def BidiStream(self, requests: AsyncIterator[Any], grpc_context: Any) -> AsyncIterator[Any]:
        got = [request async for request in requests]
        definition = got[0].response_definition if got else pb.StreamResponseDefinition()
        async for payload in _several(grpc_context, definition, got):
            yield pb.BidiStreamResponse(payload=payload)


async def _single(context: Any, definition: Any, requests: list[Any], response: Any) -> Any:
    _say(context, definition)
    await asyncio.sleep(definition.response_delay_ms / 1000)
    told = _told(context, requests)
    if definition.WhichOneof("response") == "error":
        _fail(context, definition.error, [told])
    return response(payload=pb.ConformancePayload(data=definition.response_data, request_info=told))


async def _several(context: Any, definition: Any, requests: list[Any]) -> AsyncIterator[Any]:
    _say(context, definition)
    for number, data in enumerate(definition.response_data):
        await asyncio.sleep(definition.response_delay_ms / 1000)
        told = _told(context, requests) if number == 0 else None
        yield pb.ConformancePayload(data=data, request_info=told)
    if definition.HasField("error"):
        _fail(context, definition.error, [] if definition.response_data else [_told(context, requests)])


def _say(context: Any, definition: Any) -> None:
    context.send_initial_metadata(_metadata(definition.response_headers))
    context.set_trailing_metadata(_metadata(definition.response_trailers))


def _told(context: Any, requests: Iterable[Any]) -> Any:
    """What came in: metadata, time left, messages."""
    values: dict[str, list[str]] = {}
    for key, value in context.invocation_metadata():
        text = value if isinstance(value, str) else base64.b64encode(value).decode().rstrip("=")
        values.setdefault(key, []).append(text)
    headers = [pb.Header(name=name, value=texts) for name, texts in values.items()]
    told = pb.ConformancePayload.RequestInfo(request_headers=headers)
    left = context.time_remaining()
    if left is not None:
        told.timeout_ms = int(left * 1000)
    for request in requests:
        told.requests.add().Pack(request)
    return told


def _metadata(headers: Iterable[Any]) -> tuple[tuple[str, str | bytes], ...]:
    return tuple(
        (name, base64.b64decode(text + "=" * (-len(text) % 4)) if name.endswith("-bin") else text)
        for header in headers
        for name in [header.name.lower()]
        for text in header.value
    )


def _fail(context: Any, error: Any, details: Iterable[Any]) -> None:
    status = status_pb2.Status(code=error.code, message=error.message, details=error.details)
    for detail in details:
        status.details.add().Pack(detail)
    context.abort_with_status(status)
