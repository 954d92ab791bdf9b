"""The HTTP door as an ASGI application: a path to its application, a request to a call, an answer to a response.

Raw ASGI, because whatever stands here is paid for by each request. More kinds of target (typed services, methods bound
to routes, WebSockets) are further branches of :meth:`HttpApp.__call__`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from google.protobuf.message import DecodeError

from fairlead.v1 import http_pb2, session_pb2
from fairlead.wire.errors import InternalError, MessageTooLargeError
from fairlead.wire.outcomes import outcome_of
from fairlead.wire.trust import Trust
from fairlead_gateway.edge import http_reply
from fairlead_gateway.edge.access import Access
from fairlead_gateway.edge.answers import Answer
from fairlead_gateway.edge.http_mounts import Mount, Mounts
from fairlead_gateway.edge.http_reply import Reply
from fairlead_gateway.edge.http_request import (
    AUTHORIZATION,
    KEEP_ON_DISCONNECT,
    UPGRADE,
    ClientGoneError,
    Receive,
    Scope,
    call_header,
    encode,
    notice,
    read_body,
    timeout_of,
)
from fairlead_gateway.edge.upstream import CallRouter

logger = logging.getLogger(__name__)

Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

CONNECTION = "fairlead.connection"
"""The key in an ASGI scope under which the server puts the request's :class:`HttpConnection`."""

_CLOSE = (b"connection", b"close")
_HttpResponse = http_pb2.HttpResponse


class HttpConnection(Protocol):
    """What the server lends the application of a client's connection: things that ASGI has no words for."""

    running: Answer | None
    """The call that ends with the connection: set here, so that no task has to wait for the client to leave."""

    def hold(self) -> None:
        """Keeps the next write back, to go out with the one after it."""

    def flush(self) -> None:
        """Writes what is kept back, if anything is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpLimits:
    """What a HTTP client may do."""

    max_body_bytes: int = 64 * 1024 * 1024
    """The largest body of a request; above it the answer is 413."""
    max_message_bytes: int = 256 * 1024 * 1024
    """The largest piece of a response. A streamed response may be of any length."""
    request_timeout_s: float | None = None
    """Seconds that a request may take, unless it says otherwise itself; None: no limit."""
    max_head_bytes: int = 64 * 1024
    """Bytes of the request line and the header fields; above it the answer is 431."""
    head_timeout_s: float = 30.0
    """Seconds that a client may take to send the head of a request."""
    keep_alive_timeout_s: float = 90
    """Seconds that an idle connection is kept."""


class HttpApp:
    """The application. ``access``: who is let in; None: everybody who can connect.

    ``root_path``: a prefix that a proxy has removed from all paths; handlers see it, as in ASGI.
    """

    def __init__(
        self,
        router: CallRouter,
        *,
        limits: HttpLimits | None = None,
        access: Access | None = None,
        root_path: str = "",
    ) -> None:
        self.limits = limits or HttpLimits()
        self.draining = False
        """Whether ``/-/healthz`` says that no more requests should come."""
        self._router = router
        self._root_path = root_path.rstrip("/")
        self._access = access or Access(Trust.UNTRUSTED)
        self._mounts = Mounts()
        self._builtins: dict[str, Callable[[], Reply]] = {"/-/healthz": self._healthz, "/-/routes": self._routes}
        router.table.on_change.append(self._refresh)
        self._refresh()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI scope."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1011, "reason": "WebSockets are not supported"})
        else:
            raise NotImplementedError(f"ASGI scope type {scope['type']!r}")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        builtin = self._builtins.get(path)
        if builtin is not None and path == "/-/healthz":  # probes have no token
            return await _send(send, builtin())
        noticed = notice(scope["headers"])
        if not self._access.open and not self._access.admits_authorization(noticed.get(AUTHORIZATION)):
            reply = http_reply.text(401, "Send the header 'Authorization: Bearer <token>'.", _CLOSE)
            reply.headers.append((b"www-authenticate", b"Bearer"))
            return await _send(send, reply)
        if builtin is not None:
            return await _send(send, builtin())
        mount = self._mounts.match(path)
        if mount is None:
            message = f"Path '{path}' not found. Ping http://.../-/routes for available routes."
            return await _send(send, http_reply.text(404, message))
        if noticed.get(UPGRADE, "").lower() == "websocket":
            return await _send(send, http_reply.text(501, "WebSockets are not supported.", _CLOSE))
        return await self._forward(scope, mount, noticed, receive, send)

    async def _forward(self, scope: Scope, mount: Mount, noticed: dict[str, str], receive: Receive, send: Send) -> None:
        try:
            body = await read_body(scope, receive, self.limits.max_body_bytes)
        except MessageTooLargeError as error:
            reply = http_reply.error_reply(error)
            reply.headers.append(_CLOSE)  # the rest of the body is not read
            return await _send(send, reply)
        except ClientGoneError:
            return None
        timeout_s = timeout_of(noticed, self.limits.request_timeout_s) if noticed else self.limits.request_timeout_s
        header = call_header(mount, noticed, timeout_s)
        answer = Answer(self.limits.max_message_bytes)
        # The payload is made here, of a request that may say what it likes: the router checks no trust in it.
        payload = encode(scope, mount, body, self._root_path)
        answer.attach(self._router.start(header, payload, answer, trust=Trust.OWNER))
        connection: HttpConnection | None = scope.get(CONNECTION)
        if connection is not None and noticed.get(KEEP_ON_DISCONNECT) != "?1":
            connection.running = answer
        try:
            await _respond(answer, header, timeout_s, send, connection)
        finally:
            if connection is not None:
                connection.running = None
                connection.flush()
            answer.close()
        return None

    # -- the gateway's own pages

    def _refresh(self) -> None:
        table = self._router.table
        self._mounts = Mounts(
            (app.route_prefix, app.name) for app in table.applications.values() if app.route_prefix is not None
        )

    def _healthz(self) -> Reply:
        table = self._router.table
        if self.draining or self._router.draining:
            return http_reply.text(503, "This node is being drained.")
        if not table.populated:
            return http_reply.text(503, "Route table is not populated yet.")
        deployments = [deployment for app in table.applications.values() for deployment in app.deployments.values()]
        if deployments and not any(deployment.replicas for deployment in deployments):
            return http_reply.text(503, "No replicas are available yet.")
        return http_reply.text(200, "success")

    def _routes(self) -> Reply:
        if not self._router.table.populated:
            return http_reply.text(503, "Route table is not populated yet.")
        return http_reply.json(200, self._mounts.as_routes())


async def _send(send: Send, reply: Reply) -> None:
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    await send({"type": "http.response.body", "body": reply.body})


async def _respond(
    answer: Answer,
    header: session_pb2.CallHeader,
    timeout_s: float | None,
    send: Send,
    connection: HttpConnection | None,
) -> None:
    """Sends a call's answer. One that fails after its first piece breaks the connection: the client must notice."""
    entry = await answer.next()
    if entry is None:
        outcome = answer.outcome or outcome_of(InternalError("the call ended without a response"), trusted=False)
        reply = http_reply.outcome_reply(outcome, header.request_id, timeout_s)
        _identify(reply.headers, header.request_id)
        return await _send(send, reply)
    response, status = _parse(entry[0])
    whole = answer.drained and answer.outcome is None
    body = b"" if status in (204, 304) else response.body
    headers = [(field.name, field.value) for field in response.headers]
    _identify(headers, header.request_id)
    if whole and status not in (204, 304) and not any(name == b"content-length" for name, _ in headers):
        headers.append((b"content-length", str(len(body)).encode()))
    if connection is not None:
        connection.hold()
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": not whole})
    if whole:
        return None
    if connection is not None:
        connection.flush()
    return await _stream(answer, entry[1], send)


async def _stream(answer: Answer, taken: int, send: Send) -> None:
    while True:
        answer.consumed(taken)
        entry = await answer.next()
        if entry is None:
            break
        taken = entry[1]
        await send({"type": "http.response.body", "body": _HttpResponse.FromString(entry[0]).body, "more_body": True})
    if answer.outcome is None:
        await send({"type": "http.response.body", "body": b""})
    else:
        logger.info("a response broke off: %s", answer.outcome.status.message)


def _parse(message: bytes) -> tuple[http_pb2.HttpResponse, int]:
    """A response's first message and its status; what is not a response is answered with 500."""
    try:
        response = _HttpResponse.FromString(message)
    except DecodeError:
        response = _HttpResponse()
    if 200 <= response.status <= 599:
        return response, response.status
    logger.error("a replica answered a HTTP request with status %s", response.status)
    return _HttpResponse(body=b"Internal Server Error"), 500


def _identify(headers: list[tuple[bytes, bytes]], request_id: str) -> None:
    """Echoes the request id, unless the handler has set one."""
    if request_id and not any(name == b"x-request-id" for name, _ in headers):
        headers.append((b"x-request-id", request_id.encode()))
