"""``fairlead.v1.ServingService`` for generated stubs: its messages to the gateway's one call shape and back.

The handlers take and give bytes, so that nothing is decoded that does not have to be. Each listener has handlers of its
own, made for what its peers are trusted with.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.api import httpbody_pb2
from google.protobuf.message import DecodeError

from fairlead.v1 import serving_pb2, session_pb2
from fairlead.wire.errors import FairleadError, InternalError, InvalidCallError
from fairlead.wire.outcomes import outcome_of
from fairlead.wire.trust import Trust
from fairlead_gateway.edge.answers import Answer
from fairlead_gateway.edge.gathering import Gathering
from fairlead_gateway.edge.serving_headers import REQUEST_ID_KEY, Context, bound_deadline, fill_header
from fairlead_gateway.edge.status import grpc_status
from fairlead_gateway.edge.upstream import CallRouter
from fairlead_gateway.routing.router import StartedCall

logger = logging.getLogger(__name__)

SERVICE = "fairlead.v1.ServingService"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_M = TypeVar("_M")
_HttpBody = httpbody_pb2.HttpBody
_CallRequest = serving_pb2.CallRequest
_CallResponse = serving_pb2.CallResponse


class ServingHandlers:
    """The handlers for one level of trust.

    ``limit``: the largest message of a result in bytes. ``longest_us``: microseconds that a call may take; 0: no limit.
    """

    def __init__(self, router: CallRouter, gathering: Gathering, trust: Trust, limit: int, longest_us: int = 0) -> None:
        self._router = router
        self._gathering = gathering
        self._trust = trust
        self._limit = limit
        self._longest_us = longest_us

    def by_method(self) -> dict[str, Handler]:
        """The handlers by full method name: ``Session`` is not among them."""
        return {
            f"/{SERVICE}/Call": grpc.unary_unary_rpc_method_handler(self.call),
            f"/{SERVICE}/CallStream": grpc.unary_stream_rpc_method_handler(self.call_stream),
            f"/{SERVICE}/CallBidi": grpc.stream_stream_rpc_method_handler(self.call_bidi),
            f"/{SERVICE}/Broadcast": grpc.unary_stream_rpc_method_handler(self.broadcast),
        }

    async def call(self, request: bytes, context: Context) -> bytes:
        """Call. This is the hot one: a parse, a header, one future, a message."""
        header = session_pb2.CallHeader()
        try:
            message = _CallRequest.FromString(request)
            payload = message.payload
            media_type = fill_header(header, message.target, payload.content_type, context)
            bound_deadline(header, self._longest_us)
        except Exception as error:
            await _fail(context, _outcome(error), header.request_id)
        answer = Answer(self._limit)
        try:
            self._gathering.start(header, payload.data, answer, self._trust)
            result = await answer.single()
        except Exception as error:
            await _fail(context, _outcome(error), header.request_id)
        finally:
            answer.close()
            self._gathering.done()
        if answer.outcome is not None:
            await _fail(context, answer.outcome, header.request_id)
        # Trailing metadata go with the status; initial metadata of their own would cost as much again as the answer.
        context.set_trailing_metadata(((REQUEST_ID_KEY, header.request_id),))
        return _CallResponse(payload=_HttpBody(content_type=media_type, data=result)).SerializeToString()

    async def call_stream(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        """CallStream. An item's credit is returned when gRPC has taken it."""
        message = await _parsed(serving_pb2.CallStreamRequest.FromString, request, context)
        header = session_pb2.CallHeader(stream=True)
        media_type = await _filled(header, message.target, message.payload.content_type, context)
        bound_deadline(header, self._longest_us)
        answer = Answer(self._limit)
        _start(self._router, header, message.payload.data, answer, context, self._trust)
        async for item in _items(answer, header, context):
            body = _HttpBody(content_type=media_type, data=item)
            yield serving_pb2.CallStreamResponse(payload=body).SerializeToString()

    async def call_bidi(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """CallBidi. The caller is read from only as fast as the method takes its messages."""
        first = await anext(aiter(requests), None)
        if first is None:
            await _fail(context, _outcome(InvalidCallError("CallBidi needs a first message with a target")))
        message = await _parsed(serving_pb2.CallBidiRequest.FromString, first, context)
        header = session_pb2.CallHeader(stream=True)
        content_type = message.payload.content_type
        media_type = await _filled(header, message.target, content_type, context)
        bound_deadline(header, self._longest_us)
        answer = Answer(self._limit)
        call = _start(self._router, header, message.payload.data, answer, context, self._trust, last=False)
        pump = asyncio.get_running_loop().create_task(_pump(requests, call, answer, content_type))
        try:
            async for item in _items(answer, header, context):
                body = _HttpBody(content_type=media_type, data=item)
                yield serving_pb2.CallBidiResponse(payload=body).SerializeToString()
        finally:
            pump.cancel()

    async def broadcast(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        """Broadcast. The router makes the messages; they pass through."""
        message = await _parsed(serving_pb2.BroadcastRequest.FromString, request, context)
        header = session_pb2.CallHeader(stream=True, broadcast=True)
        await _filled(header, message.target, message.payload.content_type, context)
        bound_deadline(header, self._longest_us)
        answer = Answer(self._limit)
        _start(self._router, header, message.payload.data, answer, context, self._trust)
        async for item in _items(answer, header, context):
            yield item


def _start(
    router: CallRouter,
    header: session_pb2.CallHeader,
    payload: bytes,
    answer: Answer,
    context: Context,
    trust: Trust,
    last: bool = True,
) -> StartedCall:
    """Starts a streaming call that ends at the latest when its RPC does, however that ends."""
    call = router.start(header, payload, answer, trust=trust, last=last)
    answer.attach(call)
    context.add_done_callback(lambda context: answer.close())  # type: ignore[arg-type]  # the stub is no Protocol
    return call


async def _items(answer: Answer, header: session_pb2.CallHeader, context: Context) -> AsyncIterator[bytes]:
    """The messages of a response; what comes after a message was yielded knows that it was written."""
    begun = False
    try:
        while True:
            entry = await answer.next()
            if not begun and (entry is not None or answer.outcome is None):
                begun = True
                await context.send_initial_metadata(((REQUEST_ID_KEY, header.request_id),))
            if entry is None:
                break
            yield entry[0]
            answer.consumed(entry[1])
    finally:
        answer.close()
    if answer.outcome is not None:
        await _fail(context, answer.outcome, header.request_id)


async def _pump(requests: AsyncIterator[bytes], call: StartedCall, answer: Answer, content_type: str) -> None:
    """Passes the caller's further messages on."""
    try:
        async for data in requests:
            message = serving_pb2.CallBidiRequest.FromString(data)
            if message.HasField("target"):
                raise InvalidCallError("only the first message of CallBidi has a target")
            if message.payload.content_type not in ("", content_type):
                raise InvalidCallError(
                    f"all messages of a call have one content type; this one began with {content_type!r}"
                )
            if answer.ended:
                return
            if not call.send(message.payload.data):
                await answer.writable()
        call.send(b"", last=True)
    except Exception as error:
        answer.fail(shown(error))


async def _parsed(parse: Callable[[bytes], _M], data: bytes, context: Context) -> _M:
    try:
        return parse(data)
    except DecodeError as error:
        await _fail(context, _outcome(error))


async def _filled(
    header: session_pb2.CallHeader, target: serving_pb2.Target, content_type: str, context: Context
) -> str:
    try:
        return fill_header(header, target, content_type, context)
    except FairleadError as error:
        await _fail(context, _outcome(error))


def shown(error: Exception) -> FairleadError:
    """The error as callers may see it: a defect of ours stays in the log."""
    if isinstance(error, FairleadError):
        return error
    if isinstance(error, DecodeError):
        return InvalidCallError(f"the request is not a valid message: {error}")
    logger.error("a handler of %s failed", SERVICE, exc_info=error)
    return InternalError("internal error in the gateway")


def _outcome(error: Exception) -> session_pb2.Outcome:
    return outcome_of(shown(error), trusted=False)


async def _fail(context: Context, outcome: session_pb2.Outcome, request_id: str = "") -> NoReturn:
    code, message, trailing = grpc_status(outcome)
    if request_id:
        trailing = ((REQUEST_ID_KEY, request_id), *trailing)
    await context.abort(code, message, trailing)
