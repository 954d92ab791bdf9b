"""The HTTP door as an ASGI application: a path to its application, a request to a call, an answer to a response.

Raw ASGI, because whatever stands here is paid for by each request. Each kind of target is a branch of
:meth:`HttpApp.__call__`. Every error that the door answers by itself is made in ``http_status``.
"""

from __future__ import annotations

from collections.abc import Awaitable

import grpc

from fairlead.paths import PathError
from fairlead.paths.target import separated
from fairlead.wire.errors import InvalidCallError
from fairlead.wire.trust import Trust
from fairlead_gateway.edge import http_status
from fairlead_gateway.edge.access import Access
from fairlead_gateway.edge.exchange import Exchange
from fairlead_gateway.edge.http_builtins import METRICS, PUBLIC, Builtins
from fairlead_gateway.edge.http_handlers import forward
from fairlead_gateway.edge.http_headers import DEFAULT_RULES
from fairlead_gateway.edge.http_limits import HttpLimits
from fairlead_gateway.edge.http_meter import ROUTE
from fairlead_gateway.edge.http_mounts import Mount, Mounts
from fairlead_gateway.edge.http_pages import Pages
from fairlead_gateway.edge.http_port import HttpPort
from fairlead_gateway.edge.http_reply import Reply
from fairlead_gateway.edge.http_request import (
    AUTHORIZATION,
    ClientGoneError,
    Receive,
    Scope,
    check_fields,
    notice,
    request_id_of,
)
from fairlead_gateway.edge.http_response import Send, identify, send_reply
from fairlead_gateway.edge.http_targets import SOURCES, HttpTargets, Matched
from fairlead_gateway.edge.http_websocket import WebSocketExchange, refuse
from fairlead_gateway.edge.typed.methods import RpcMethods
from fairlead_gateway.edge.typed.targets import OwnTargets, typed_routes
from fairlead_gateway.edge.upstream import CallRouter
from fairlead_gateway.edge.web.door import WebDoor

_ROOT = Mount("/", "", "")
"""Where what belongs to no application is."""


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
        self._port = HttpPort(router=router, limits=self.limits, root_path=root_path.rstrip("/"))
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
        self.builtins = Builtins(router, Pages(self._mounts, self._targets))
        self._builtins = self.builtins.by_path
        router.table.on_change.append(self._refresh)
        self._refresh()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serves one ASGI scope."""
        if scope["type"] == "http":
            return self._serve(scope, receive, send)
        if scope["type"] == "websocket":
            return self._serve_websocket(scope, receive, send)
        raise NotImplementedError(f"ASGI scope type {scope['type']!r}")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        builtin = self._builtins.get(path)
        if builtin is not None and path in PUBLIC:
            return await send_reply(send, builtin())
        noticed = notice(scope["headers"])
        if not self._access.open and not self._access.admits_authorization(noticed.get(AUTHORIZATION)):
            return await _refuse(send, _unauthenticated(), noticed)
        if builtin is not None:
            return await send_reply(send, builtin())
        if path == METRICS and self.builtins.metrics is not None:
            return await send_reply(send, await self.builtins.metrics(scope["query_string"]))
        spoken = self._web.spoken(scope)
        if spoken is not None:
            return await self._web.serve(spoken, noticed, scope, receive, send)
        try:
            if b"%" in scope["raw_path"]:
                path = separated(scope["raw_path"])
            if noticed:
                check_fields(noticed)
        except (PathError, InvalidCallError) as error:
            return await _refuse(send, _malformed(error), noticed)
        own = self._own.find(scope)
        if own is not None:
            return await self._exchange(Matched(*own), _ROOT, noticed, scope, receive, send)
        mount = self._mounts.match(path)
        if mount is None:
            reply = self._own.refusal(scope) or self._web.stray(scope) or http_status.not_found(scope["path"])
            return await _refuse(send, reply, noticed)
        targets = self._targets.of(mount.application)
        found = None if targets is None else targets.resolve(scope, mount, self._port.root_path)
        if found is None:
            return await forward(self._port, mount, noticed, scope, receive, send)
        if isinstance(found, Reply):
            stray = self._web.stray(scope) if found.status == 404 else None
            return await _refuse(send, stray or found, noticed)
        return await self._exchange(found, mount, noticed, scope, receive, send)

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """WebSockets are the ingress deployment's: routes and typed services have none."""
        await receive()
        noticed = notice(scope["headers"])
        if not self._access.open and not self._access.admits_authorization(noticed.get(AUTHORIZATION)):
            return await refuse(scope, send, _unauthenticated(), request_id_of(noticed))
        try:
            mount = self._mounts.match(separated(scope["raw_path"]))
            check_fields(noticed)
        except (PathError, InvalidCallError) as error:
            return await refuse(scope, send, _malformed(error), request_id_of(noticed))
        if mount is None:
            return await refuse(scope, send, http_status.not_found(scope["path"]), request_id_of(noticed))
        return await WebSocketExchange(self._port, mount, noticed, scope, receive, send).serve()

    async def _exchange(
        self, found: Matched, mount: Mount, noticed: dict[str, str], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Has a route's target answer the request."""
        scope[ROUTE] = mount.application, mount.root_path + found.pattern
        exchange = Exchange(self._port, mount, noticed, scope, receive, send, found.params)
        try:
            await found.target.serve(exchange)
        except ClientGoneError:
            return
        finally:
            exchange.close()

    def _takes(self, scope: Scope) -> bool:
        """Whether a request is for an application, or a binding of ServingService."""
        return self._mounts.match(scope["path"]) is not None or self._own.find(scope) is not None

    def _refresh(self) -> None:
        table = self._port.router.table
        self._mounts = Mounts(
            (app.route_prefix, app.name) for app in table.applications.values() if app.route_prefix is not None
        )
        self._targets.refresh(app for app in table.applications.values() if app.route_prefix is not None)
        self.builtins.pages = Pages(
            self._mounts,
            self._targets,
            own=self._own.routes,
            applications=table.applications.values(),
            root_path=self._port.root_path,
            token=not self._access.open,
        )


def _unauthenticated() -> Reply:
    message = "Send the header 'Authorization: Bearer <token>'."
    return http_status.reply(
        401, grpc.StatusCode.UNAUTHENTICATED, message, http_status.CLOSE, (b"www-authenticate", b"Bearer")
    )


def _malformed(error: Exception) -> Reply:
    return http_status.reply(400, grpc.StatusCode.INVALID_ARGUMENT, str(error))


async def _refuse(send: Send, reply: Reply, noticed: dict[str, str]) -> None:
    """Answers a request for which there is no call."""
    identify(reply.headers, request_id_of(noticed))
    await send_reply(send, reply)
