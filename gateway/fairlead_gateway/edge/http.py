"""The HTTP door as an ASGI application: a path to its application, a request to a call, an answer to a response.

Raw ASGI, because whatever stands here is paid for by each request. More kinds of target (typed services, methods bound
to routes, WebSockets) are further branches of :meth:`HttpApp.__call__`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc

from fairlead.paths import PathError
from fairlead.paths.target import separated
from fairlead.wire.errors import InvalidCallError, MessageTooLargeError
from fairlead.wire.trust import Trust
from fairlead_gateway.edge import http_reply, http_status
from fairlead_gateway.edge.access import Access
from fairlead_gateway.edge.answers import Answer
from fairlead_gateway.edge.exchange import Exchange
from fairlead_gateway.edge.http_headers import DEFAULT_RULES
from fairlead_gateway.edge.http_limits import HttpLimits as HttpLimits
from fairlead_gateway.edge.http_meter import REQUEST_ID, ROUTE
from fairlead_gateway.edge.http_mounts import Mount, Mounts
from fairlead_gateway.edge.http_pages import Pages, docs
from fairlead_gateway.edge.http_reply import Reply
from fairlead_gateway.edge.http_request import (
    AUTHORIZATION,
    KEEP_ON_DISCONNECT,
    ClientGoneError,
    Receive,
    Scope,
    call_header,
    check_timeout,
    encode,
    notice,
    read_body,
    request_id_of,
    timeout_of,
)
from fairlead_gateway.edge.http_response import CONNECTION as CONNECTION
from fairlead_gateway.edge.http_response import HttpConnection, Send, identify, respond, send_reply
from fairlead_gateway.edge.http_targets import SOURCES, HttpTargets, Matched
from fairlead_gateway.edge.http_websocket import WebSocketExchange, refuse
from fairlead_gateway.edge.typed.methods import RpcMethods
from fairlead_gateway.edge.typed.targets import OwnTargets, typed_routes
from fairlead_gateway.edge.upstream import CallRouter
from fairlead_gateway.edge.web.door import WebDoor

_CLOSE = (b"connection", b"close")
_ROOT = Mount("/", "", "")
"""Where what belongs to no application is."""

_METRICS = "/-/metrics"
_PUBLIC = ("/-/healthz", "/-/docs")
"""Pages without secrets, for those who have no token: probes, and browsers that ask for the page to enter one in."""


class HttpApp:
    """The application. ``access``: who is let in; None: everybody who can connect.

    ``root_path``: a prefix that a proxy has removed from all paths; handlers see it, as in ASGI. ``methods``: those of
    typed services, where the worker's doors share them.
    """

    def __init__(
        self,
        router: CallRouter,
        *,
        limits: HttpLimits | None = None,
        access: Access | None = None,
        root_path: str = "",
        methods: RpcMethods | None = None,
    ) -> None:
        self.limits = limits or HttpLimits()
        self.draining = False
        """Whether ``/-/healthz`` says that no more requests should come."""
        self.metrics: Callable[[bytes], Awaitable[Reply]] | None = None
        """Makes the page ``/-/metrics``, of a query string; None: there is none."""
        self._router = router
        self._root_path = root_path.rstrip("/")
        self._access = access or Access(Trust.UNTRUSTED)
        methods = methods or RpcMethods(router.table)
        secret = not self._access.open
        self._web = WebDoor(router, methods, self.limits, taken=self._takes, secret=secret)
        rules = DEFAULT_RULES.with_names(*self.limits.metadata_headers)
        if secret:
            rules = rules.without_names(AUTHORIZATION)
        self._own = OwnTargets(methods, rules)
        self._mounts = Mounts()
        self._targets = HttpTargets((*SOURCES, typed_routes(methods, rules)))
        self._pages = Pages(self._mounts, self._targets)
        self._builtins: dict[str, Callable[[], Reply]] = {
            "/-/healthz": self._healthz,
            "/-/routes": lambda: self._once_populated(self._pages.routes),
            "/-/openapi.json": lambda: self._once_populated(self._pages.openapi),
            "/-/docs": docs,
        }
        router.table.on_change.append(self._refresh)
        self._refresh()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI scope."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._serve_websocket(scope, receive, send)
        else:
            raise NotImplementedError(f"ASGI scope type {scope['type']!r}")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        builtin = self._builtins.get(path)
        if builtin is not None and path in _PUBLIC:
            return await send_reply(send, builtin())
        noticed = notice(scope["headers"])
        if not self._access.open and not self._access.admits_authorization(noticed.get(AUTHORIZATION)):
            return await send_reply(send, _unauthenticated())
        if builtin is not None:
            return await send_reply(send, builtin())
        if path == _METRICS and self.metrics is not None:
            return await send_reply(send, await self.metrics(scope["query_string"]))
        spoken = self._web.spoken(scope)
        if spoken is not None:
            return await self._web.serve(spoken, noticed, scope, receive, send)
        try:
            if b"%" in scope["raw_path"]:
                path = separated(scope["raw_path"])
            if noticed:
                check_timeout(noticed)
        except (PathError, InvalidCallError) as error:
            return await send_reply(send, _malformed(error, noticed))
        own = self._own.find(scope)
        if own is not None:
            return await self._exchange(Matched(*own), _ROOT, noticed, scope, receive, send)
        mount = self._mounts.match(path)
        if mount is None:
            return await send_reply(send, self._own.refusal(scope) or _not_found(scope, noticed))
        targets = self._targets.of(mount.application)
        found = None if targets is None else targets.resolve(scope, mount, self._root_path)
        if found is None:
            return await self._forward(scope, mount, noticed, receive, send)
        if isinstance(found, Reply):
            identify(found.headers, request_id_of(noticed))
            return await send_reply(send, found)
        return await self._exchange(found, mount, noticed, scope, receive, send)

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """WebSockets are the ingress deployment's: routes and typed services have none."""
        await receive()
        noticed = notice(scope["headers"])
        if not self._access.open and not self._access.admits_authorization(noticed.get(AUTHORIZATION)):
            return await refuse(scope, send, _unauthenticated())
        try:
            mount = self._mounts.match(separated(scope["raw_path"]))
            check_timeout(noticed)
        except (PathError, InvalidCallError) as error:
            return await refuse(scope, send, _malformed(error, noticed))
        if mount is None:
            return await refuse(scope, send, _not_found(scope, noticed))
        exchange = WebSocketExchange(
            self._router,
            self.limits,
            mount,
            noticed,
            scope=scope,
            receive=receive,
            send=send,
            root_path=self._root_path,
        )
        return await exchange.serve()

    async def _exchange(
        self, found: Matched, mount: Mount, noticed: dict[str, str], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Has a route's target answer the request."""
        scope[ROUTE] = mount.application, mount.root_path + found.pattern
        exchange = Exchange(
            self._router,
            self.limits,
            mount,
            noticed,
            scope=scope,
            receive=receive,
            send=send,
            root_path=self._root_path,
            params=found.params,
        )
        try:
            await found.target.serve(exchange)
        except ClientGoneError:
            return
        finally:
            exchange.close()

    async def _forward(self, scope: Scope, mount: Mount, noticed: dict[str, str], receive: Receive, send: Send) -> None:
        scope[ROUTE] = mount.application, mount.prefix
        try:
            body = await read_body(scope, receive, self.limits.max_body_bytes)
        except MessageTooLargeError as error:
            reply = http_reply.error_reply(error)
            reply.headers.append(_CLOSE)  # the rest of the body is not read
            return await send_reply(send, reply)
        except ClientGoneError:
            return None
        timeout_s = timeout_of(noticed, self.limits) if noticed else self.limits.request_timeout_s
        header = call_header(mount, noticed, timeout_s)
        answer = Answer(self.limits.max_message_bytes)
        # The payload is made here, of a request that may say what it likes: the router checks no trust in it.
        payload = encode(scope, mount, body, self._root_path)
        answer.attach(self._router.start(header, payload, answer, trust=Trust.OWNER))
        scope[REQUEST_ID] = header.request_id
        connection: HttpConnection | None = scope.get(CONNECTION)
        if connection is not None and noticed.get(KEEP_ON_DISCONNECT) != "?1":
            connection.running = answer
        try:
            await respond(answer, header, timeout_s, send, connection)
        finally:
            if connection is not None:
                connection.running = None
                connection.flush()
            answer.close()
        return None

    def _takes(self, scope: Scope) -> bool:
        """Whether a request is for an application, or a binding of ServingService."""
        return self._mounts.match(scope["path"]) is not None or self._own.find(scope) is not None

    # -- the gateway's own pages

    def _refresh(self) -> None:
        table = self._router.table
        self._mounts = Mounts(
            (app.route_prefix, app.name) for app in table.applications.values() if app.route_prefix is not None
        )
        self._targets.refresh(app for app in table.applications.values() if app.route_prefix is not None)
        self._pages = Pages(
            self._mounts,
            self._targets,
            own=self._own.routes,
            root_path=self._root_path,
            token=not self._access.open,
        )

    def _healthz(self) -> Reply:
        table = self._router.table
        if self.draining or self._router.draining:
            return http_reply.text(503, "This node is being drained.")
        if not table.populated:
            return http_reply.text(503, "Route table is not populated yet.")
        # What sleeps can be called: it wakes then.
        callable_ones = [
            bool(deployment.replicas) or (deployment.autoscaled and app.serving)
            for app in table.applications.values()
            for deployment in app.deployments.values()
        ]
        if callable_ones and not any(callable_ones):
            return http_reply.text(503, "No replicas are available yet.")
        return http_reply.text(200, "success")

    def _once_populated(self, page: Callable[[], Reply]) -> Reply:
        if not self._router.table.populated:
            return http_reply.text(503, "Route table is not populated yet.")
        return page()


def _unauthenticated() -> Reply:
    reply = http_reply.text(401, "Send the header 'Authorization: Bearer <token>'.", _CLOSE)
    reply.headers.append((b"www-authenticate", b"Bearer"))
    return reply


def _not_found(scope: Scope, noticed: dict[str, str]) -> Reply:
    reply = http_reply.text(404, f"Path '{scope['path']}' not found. Ping http://.../-/routes for available routes.")
    identify(reply.headers, request_id_of(noticed))
    return reply


def _malformed(error: Exception, noticed: dict[str, str]) -> Reply:
    reply = http_status.reply(400, grpc.StatusCode.INVALID_ARGUMENT, str(error))
    identify(reply.headers, request_id_of(noticed))
    return reply
