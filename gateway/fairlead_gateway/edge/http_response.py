"""A call's answer, or a reply of the door's own, sent as an ASGI response."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from fairlead.v1 import http_pb2, session_pb2
from fairlead.wire.errors import InternalError
from fairlead.wire.outcomes import outcome_of
from fairlead_gateway.edge import http_status
from fairlead_gateway.edge.answers import Answer
from fairlead_gateway.edge.http_headers import HOP_BY_HOP
from fairlead_gateway.edge.http_reply import Reply

logger = logging.getLogger(__name__)

Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

CONNECTION = "fairlead.connection"
"""The key in an ASGI scope under which the server puts the request's :class:`HttpConnection`."""

_BODILESS = frozenset({204, 205, 304})
_SWITCHING = 101
"""Says that the connection speaks another protocol from here on, which it does not."""
KEEP_ALIVE_S = 15.0
"""Seconds of silence after which a stream of events gets a comment."""
COMMENT = b": \n\n"

_HttpResponse = http_pb2.HttpResponse


class HttpConnection(Protocol):
    """What the server lends the application of a client's connection: things that ASGI has no words for."""

    running: Answer | None
    """The call that ends with the connection: set here, so that no task has to wait for the client to leave."""
    streams: bool
    """Whether the body of the request is a stream of messages, which may take as long as its call."""

    def hold(self) -> None:
        """Keeps the next write back, to go out with the one after it."""

    def flush(self) -> None:
        """Writes what is kept back, if anything is."""


async def send_reply(send: Send, reply: Reply) -> None:
    """Sends a whole response."""
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    await send({"type": "http.response.body", "body": reply.body})


async def respond(
    answer: Answer,
    header: session_pb2.CallHeader,
    timeout_s: float | None,
    send: Send,
    connection: HttpConnection | None,
    *,
    plain: bool = True,
    routed: bool = False,
    head: bool = False,
) -> None:
    """Sends the answer of a call whose messages are ``HttpResponse``s.

    ``routed``: it came by a route. ``head``: it answers HEAD: of a stream nothing but the beginning is waited for.
    ``plain``: a response that fails after its first piece breaks the connection off, as in Ray Serve; otherwise it says
    so in the stream, where its format has a place.
    """
    entry = await answer.next()
    if entry is None:
        outcome = answer.outcome or outcome_of(InternalError("the call ended without a response"), trusted=False)
        reply = http_status.outcome_reply(outcome, header.request_id, timeout_s)
        if plain and not routed and header.method and reply.status == 404:
            # The path is there: what X-SERVE-CALL-METHOD names is not, as in Ray Serve.
            reply = reply._replace(status=500)
        identify(reply.headers, header.request_id)
        return await send_reply(send, reply)
    response, status = _parse(entry[0])
    whole = (answer.drained and answer.outcome is None) or response.complete
    body = response.body
    headers = [(name, field.value) for field in response.headers if (name := field.name) not in HOP_BY_HOP]
    identify(headers, header.request_id)
    if status in _BODILESS or status < 200:
        body, whole = _unusual(status, headers, body, whole)
    elif whole and b"content-length" not in [name for name, _ in headers]:
        headers.append((b"content-length", str(len(body)).encode()))
    if head:
        whole, body = True, b""
    if connection is not None:
        connection.hold()
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": not whole})
    if whole:
        if response.complete:
            answer.release()
        return None
    if connection is not None:
        connection.flush()
    return await _stream(answer, entry[1], send, b"" if plain else _content_type(headers))


def _unusual(status: int, headers: list[tuple[bytes, bytes]], body: bytes, whole: bool) -> tuple[bytes, bool]:
    """The body, and whether it is all, of a response that by its status has none (RFC 9110, 15.3.5) or is no final one.

    Informational statuses are sent as they are, since handlers may want them (classic Ray Serve shows one). Clients
    that wait for another response must see the end of the connection.
    """
    if status < 200:
        headers.append((b"connection", b"close"))
        return body, whole
    headers[:] = [field for field in headers if field[0] != b"content-length"]
    if status == 205:
        headers.append((b"content-length", b"0"))
    return b"", True


async def _stream(answer: Answer, taken: int, send: Send, media_type: bytes) -> None:
    """The rest of a response. ``media_type``: of a stream that may say in itself how it failed."""
    idle_s = KEEP_ALIVE_S if media_type.startswith(http_status.EVENTS) else None
    while True:
        answer.consumed(taken)
        try:
            entry = await asyncio.wait_for(answer.next(), idle_s) if idle_s else await answer.next()
        except TimeoutError:  # proxies cut off what is silent for long
            taken = 0
            await send({"type": "http.response.body", "body": COMMENT, "more_body": True})
            continue
        if entry is None:
            break
        taken = entry[1]
        piece = _HttpResponse.FromString(entry[0])
        await send({"type": "http.response.body", "body": piece.body, "more_body": not piece.complete})
        if piece.complete:
            answer.release()
            return
    record = b""
    if answer.outcome is not None:
        logger.info("a response broke off: %s", answer.outcome.status.message)
        record = http_status.error_record(media_type, answer.outcome)
    if answer.outcome is None or record:
        await send({"type": "http.response.body", "body": record})


def _content_type(headers: list[tuple[bytes, bytes]]) -> bytes:
    return next((value for name, value in headers if name == b"content-type"), b"")


def _parse(message: bytes) -> tuple[http_pb2.HttpResponse, int]:
    """A response's first message and its status; what is not a response is answered with 500."""
    try:
        response = _HttpResponse.FromString(message)
    except DecodeError:
        response = _HttpResponse()
    status = response.status
    if 100 <= status <= 999 and status != _SWITCHING:
        return response, status
    logger.error("a replica answered a HTTP request with status %s", response.status)
    reply = http_status.reply(500, grpc.StatusCode.INTERNAL, http_status.HIDDEN)
    headers = [http_pb2.HttpHeader(name=name, value=value) for name, value in reply.headers]
    return _HttpResponse(headers=headers, body=reply.body), reply.status


def identify(headers: list[tuple[bytes, bytes]], request_id: str) -> None:
    """Echoes the request id, unless the handler has set one."""
    if request_id and b"x-request-id" not in [name for name, _ in headers]:
        headers.append((b"x-request-id", request_id.encode()))
