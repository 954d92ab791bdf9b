"""A WebSocket, as the user's ASGI application sees it: the call's messages as ASGI's."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

from fairlead.v1 import http_pb2, session_pb2
from fairlead.wire.codecs import Codec
from fairlead.wire.errors import FairleadError, UserExceptionError
from fairlead_replica.asgi import App, Message, Send
from fairlead_replica.http_fields import fields_of
from fairlead_replica.tracebacks import user_traceback

logger = logging.getLogger(__name__)

NO_STATUS, ABNORMAL, INTERNAL = 1005, 1006, 1011
"""Close codes of RFC 6455, 7.4.1."""

_WebSocketMessage = http_pb2.WebSocketMessage

CODEC = Codec(
    name="WebSocketMessage",
    serialization=session_pb2.SERIALIZATION_HTTP,
    media_type="",
    runs_code=False,
    dumps=_WebSocketMessage.SerializeToString,
    loads=_WebSocketMessage.FromString,
)
"""The client's messages, as if WebSockets were a serialization."""


class WebSocket:
    """One WebSocket. ``inbound``: the client's messages; ``send`` takes encoded ones for the client."""

    def __init__(self, inbound: AsyncIterator[http_pb2.WebSocketMessage], send: Send) -> None:
        self._inbound = inbound
        self._send = send
        self._connected = False
        self._accepted = False
        self._refusal: Message | None = None
        self._closed = False
        self._left = False

    def left(self) -> None:
        """The client is gone: what is sent from now on is an error to the application."""
        self._left = True

    async def play(self, app: App, scope: dict[str, Any]) -> None:
        """Runs the application. Where it forgets to, the WebSocket is closed for it: 1000, or 1011 if it raised.

        Raises Fairlead's own errors; a UserExceptionError for anything else before the handshake was answered.
        """
        try:
            await app(scope, self.receive, self.send)
        except FairleadError:
            raise
        except Exception as error:
            if not self._left:  # else it is most likely about that
                logger.error("the ASGI application failed in a WebSocket\n%s", user_traceback(error))  # noqa: TRY400
            await self._fail()
        else:
            if not (self._accepted or self._closed):
                logger.error("the ASGI application returned without answering the handshake of a WebSocket")
                await self._fail()
            await self._end(1000, "")

    async def _fail(self) -> None:
        if not (self._accepted or self._closed) and self._refusal is None:
            raise UserExceptionError  # the gateway answers the handshake
        await self._end(INTERNAL, "Internal Server Error")

    async def receive(self) -> Message:
        """ASGI's ``receive``."""
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        try:
            message = await anext(self._inbound)
        except StopAsyncIteration:
            return {"type": "websocket.disconnect", "code": ABNORMAL, "reason": ""}
        kind = message.WhichOneof("kind")
        if kind == "text":
            return {"type": "websocket.receive", "text": message.text}
        if kind == "data":
            return {"type": "websocket.receive", "bytes": message.data}
        close = message.close
        return {"type": "websocket.disconnect", "code": close.code or NO_STATUS, "reason": close.reason}

    async def send(self, message: Message) -> None:
        """ASGI's ``send``.

        Raises OSError when the client is gone, RuntimeError for what does not fit, ValueError for header fields that
        HTTP cannot carry.
        """
        kind = message["type"].removeprefix("websocket.")
        if self._left and kind == "send":
            raise OSError("the client has left")
        if self._closed or not self._fits(kind):
            raise RuntimeError(f"the ASGI message {message['type']!r} does not fit here")
        match kind:
            case "accept":
                accept = _accept(message)
                self._accepted = True
                await self._post(accept=accept)
            case "send":
                await self._post(**_content(message))
            case "close":
                await self._end(message.get("code") or 1000, message.get("reason") or "")
            case "http.response.start":
                self._refusal = {**message, "headers": fields_of(message.get("headers", ()))}
            case _:
                await self._refuse(bytes(message.get("body", b"")), bool(message.get("more_body", False)))

    def _fits(self, kind: str) -> bool:
        if self._accepted:
            return kind in ("send", "close")
        if self._refusal is not None:
            return kind == "http.response.body"
        return kind in ("accept", "close", "http.response.start")

    async def _refuse(self, body: bytes, more: bool) -> None:
        self._closed = not more
        response = http_pb2.HttpResponse(body=body, complete=not more)
        head, self._refusal = self._refusal, {}
        if head:
            response.status = head["status"]
            for name, value in head["headers"]:
                response.headers.add(name=name, value=value)
        await self._post(response=response)

    async def _end(self, code: int, reason: str) -> None:
        if not self._closed:
            self._closed = True
            await self._post(close=http_pb2.WebSocketClose(code=code, reason=reason))

    async def _post(self, **content: Any) -> None:
        await self._send(_WebSocketMessage(**content).SerializeToString())


def _accept(message: Message) -> http_pb2.WebSocketAccept:
    accept = http_pb2.WebSocketAccept(subprotocol=message.get("subprotocol") or "")
    fields_of([(b"sec-websocket-protocol", accept.subprotocol.encode())])
    for name, value in fields_of(message.get("headers") or ()):
        accept.headers.add(name=name, value=value)
    return accept


def _content(message: Message) -> dict[str, Any]:
    data = message.get("bytes")
    return {"text": message["text"]} if data is None else {"data": bytes(data)}
