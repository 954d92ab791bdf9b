"""A WebSocket at the HTTP door: one call, whose messages go both ways as fast as both ends read them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from fairlead.v1 import http_pb2, session_pb2
from fairlead.wire.errors import DeadlineExceededError, InternalError
from fairlead.wire.outcomes import error_info, outcome_of
from fairlead.wire.trust import Trust
from fairlead_gateway.edge import http_status
from fairlead_gateway.edge.answers import Answer
from fairlead_gateway.edge.http_headers import without_hop_by_hop
from fairlead_gateway.edge.http_mounts import Mount
from fairlead_gateway.edge.http_port import HttpPort
from fairlead_gateway.edge.http_reply import Reply
from fairlead_gateway.edge.http_request import Receive, Scope, call_header, encode, timeout_of
from fairlead_gateway.edge.http_response import CONNECTION, Send, identify
from fairlead_gateway.routing.router import StartedCall

logger = logging.getLogger(__name__)

TOO_LARGE, INTERNAL, RESTART = 1009, 1011, 1012
"""Close codes of RFC 6455 and its registry."""
# A replica that ends cancels what has not ended in time.
_RESTARTS = frozenset({"REPLICA_DRAINING", "GATEWAY_DRAINING", "CONNECTION_LOST", "REPLICA_LOST", "CANCELLED"})
_NO_CODE = 1005
"""What ASGI says for a close without a code; it may not be sent on."""
_WEBSOCKET = http_pb2.HttpRequest(websocket=True).SerializeToString()

_WebSocketMessage = http_pb2.WebSocketMessage


async def refuse(scope: Scope, send: Send, reply: Reply, request_id: str) -> None:
    """Answers the handshake with a response; 403 where the server cannot send any other."""
    identify(reply.headers, request_id)
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        return await send({"type": "websocket.close"})
    await send({"type": "websocket.http.response.start", "status": reply.status, "headers": reply.headers})
    return await send({"type": "websocket.http.response.body", "body": reply.body})


class WebSocketExchange:
    """One WebSocket. ``serve`` it once."""

    def __init__(
        self, port: HttpPort, mount: Mount, noticed: dict[str, str], scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._port = port
        self._scope = scope
        self._receive = receive
        self._send = send
        self._answer = Answer(port.limits.max_message_bytes)
        self._handshake_s = timeout_of(noticed, port.limits)
        # Without a deadline of its own: how long a request may take is how long the handshake may.
        self._header = call_header(mount, noticed, None)
        self._payload = encode({**scope, "method": "GET"}, mount, b"", port.root_path) + _WEBSOCKET
        self._gone = False

    async def serve(self) -> None:
        """From the handshake to the end. The call is given up when the client leaves and the handler does not end."""
        answer = self._answer
        # The payload is made here, as that of every HTTP request: the router checks no trust in it.
        call = self._port.router.start(self._header, self._payload, answer, trust=Trust.OWNER, last=False)
        answer.attach(call)
        connection = self._scope.get(CONNECTION)
        if connection is not None:
            connection.running = answer
        pump = asyncio.get_running_loop().create_task(self._pump(call))
        try:
            if await self._shake_hands():
                await self._pass_on()
        finally:
            if connection is not None:
                connection.running = None
            pump.cancel()
            answer.close()
            await asyncio.wait({pump})

    # -- from the client

    async def _pump(self, call: StartedCall) -> None:
        """Passes the client's messages on; the last one says that it has left."""
        answer = self._answer
        while not answer.ended:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                break
            text = message.get("text")
            content = {"data": message["bytes"]} if text is None else {"text": text}
            if not call.send(_WebSocketMessage(**content).SerializeToString()):
                await answer.writable()
        else:
            return
        self._gone = True
        code = message.get("code") or 0
        close = http_pb2.WebSocketClose(code=0 if code == _NO_CODE else code, reason=message.get("reason") or "")
        call.send(_WebSocketMessage(close=close).SerializeToString(), last=True)
        await asyncio.sleep(self._port.limits.websocket_farewell_s)
        answer.close()

    # -- to the client

    async def _shake_hands(self) -> bool:
        """Answers the handshake as the handler does. Whether the WebSocket is open."""
        answer = self._answer
        try:
            async with asyncio.timeout(self._handshake_s):
                entry = await answer.next()
        except TimeoutError:
            answer.fail(DeadlineExceededError("the deadline passed"))
            entry = None
        if self._gone:
            return False
        if entry is None:
            outcome = answer.outcome or outcome_of(InternalError("the call ended without an answer"), trusted=False)
            reply = http_status.outcome_reply(outcome, self._header.request_id, self._handshake_s)
            await refuse(self._scope, self._send, reply, self._header.request_id)
            return False
        message = _parse(entry[0])
        kind = message.WhichOneof("kind")
        if kind == "accept":
            await self._accept(message.accept)
        elif kind == "close":
            await self._send({"type": "websocket.close"})
        elif kind == "response" and 200 <= message.response.status <= 599:
            await self._refuse_with(message.response, entry[1])
        else:
            logger.error("a replica answered a WebSocket's handshake with %s", kind)
            reply = http_status.reply(500, grpc.StatusCode.INTERNAL, http_status.HIDDEN)
            await refuse(self._scope, self._send, reply, self._header.request_id)
        answer.consumed(entry[1])
        return kind == "accept"

    async def _accept(self, accept: http_pb2.WebSocketAccept) -> None:
        headers = without_hop_by_hop((field.name, field.value) for field in accept.headers)
        identify(headers, self._header.request_id)
        subprotocol = accept.subprotocol or None
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers})

    async def _refuse_with(self, response: http_pb2.HttpResponse, taken: int) -> None:
        """Answers the handshake with the handler's own response."""
        headers = without_hop_by_hop((field.name, field.value) for field in response.headers)
        status, body = response.status, [response.body]
        while not response.complete:
            self._answer.consumed(taken)
            entry = await self._answer.next()
            if entry is None:
                break
            response, taken = _parse(entry[0]).response, entry[1]
            body.append(response.body)
        await refuse(self._scope, self._send, Reply(status, headers, b"".join(body)), self._header.request_id)

    async def _pass_on(self) -> None:
        """Passes the handler's messages on, until one of the ends closes. Of a client that left they are dropped."""
        answer = self._answer
        closed = False
        while (entry := await answer.next()) is not None:
            message = _parse(entry[0])
            if not (closed or self._gone):
                closed = message.WhichOneof("kind") == "close"
                with contextlib.suppress(OSError):  # it left a moment ago; the pump is about to hear of it
                    await self._send(_outgoing(message))
            answer.consumed(entry[1])
        if not (closed or self._gone):
            await self._send({"type": "websocket.close", **_ending(answer.outcome)})


def _outgoing(message: http_pb2.WebSocketMessage) -> dict[str, Any]:
    kind = message.WhichOneof("kind")
    if kind == "text":
        return {"type": "websocket.send", "text": message.text}
    if kind == "data":
        return {"type": "websocket.send", "bytes": message.data}
    return {"type": "websocket.close", "code": message.close.code or 1000, "reason": message.close.reason}


def _ending(outcome: session_pb2.Outcome | None) -> dict[str, Any]:
    """How a WebSocket ends whose handler did not close it."""
    if outcome is None:
        return {"code": 1000}
    info = error_info(outcome.status)
    logger.info("a WebSocket broke off: %s", outcome.status.message)
    reason = "" if info is None else info.reason
    return {"code": RESTART if reason in _RESTARTS else TOO_LARGE if reason == "MESSAGE_TOO_LARGE" else INTERNAL}


def _parse(payload: bytes) -> http_pb2.WebSocketMessage:
    try:
        return _WebSocketMessage.FromString(payload)
    except DecodeError:
        return _WebSocketMessage()
