"""The gRPC door: ServingService, health and reflection on the owner's Unix socket and on a TCP port.

Each listener is a server of its own, so that what its peers are trusted with is known by where they came in.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from fairlead.v1 import serving_pb2
from fairlead.wire.errors import UnauthenticatedError
from fairlead.wire.outcomes import outcome_of
from fairlead.wire.trust import Trust
from fairlead_gateway.edge.access import Access
from fairlead_gateway.edge.binding import BindError, TcpListener, bind, format_address
from fairlead_gateway.edge.control_relay import ControlRelay
from fairlead_gateway.edge.gathering import Gathering
from fairlead_gateway.edge.grpc_meter import GrpcMeter
from fairlead_gateway.edge.health import Health
from fairlead_gateway.edge.ray_api import RayServeApi
from fairlead_gateway.edge.reflection import Reflection
from fairlead_gateway.edge.serving import SERVICE, ServingHandlers
from fairlead_gateway.edge.status import grpc_status
from fairlead_gateway.edge.typed.grpc_handlers import TypedHandlers
from fairlead_gateway.edge.typed.methods import RpcMethods
from fairlead_gateway.edge.upstream import CallRouter

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
SessionHandlers: TypeAlias = Callable[[Trust, int], "grpc.RpcMethodHandler[Any, Any]"]
"""Gives the handler of ``ServingService.Session`` for peers of one trust, and the microseconds that a call may take."""

ACCEPTORS = 8
"""Servers behind a TCP port, among which the kernel divides the connections.

A server of grpc.aio accepts one call at a time: the next is asked for when it has been. With several servers, calls of
several connections come in the same turn of the event loop, and go on to the replicas together.
"""

_SESSION = f"/{SERVICE}/Session"
_OPEN_METHODS = "/grpc.health.v1.Health/"
"""Methods under this path need no token: probes have none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GrpcLimits:
    """What a gRPC peer may do."""

    max_message_bytes: int = 64 * 1024 * 1024
    """The largest message, received or sent; above it the call ends with RESOURCE_EXHAUSTED and the connection lives.

    gRPC's own default is 4 MiB. Models take images and arrays; a deployment that faces strangers may want less.
    """
    request_timeout_s: float | None = None
    """Seconds that a call over TCP may take, queueing included; None: no limit but the caller's deadline."""
    max_metadata_bytes: int = 16 * 1024
    """The most metadata of a call."""
    max_concurrent_streams: int = 1000
    """Calls at once on one connection; further ones wait in the client. A session counts as one."""
    handshake_timeout_s: float = 10.0
    """Seconds that a new connection may take until it speaks HTTP/2, the TLS handshake included."""
    min_ping_interval_s: float = 10.0
    """Clients that ping more often are disconnected. Usual keepalive settings start at 10 s."""

    def options(self, reuse_port: bool) -> tuple[tuple[str, Any], ...]:
        """The same as channel arguments."""
        return (
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", self.max_metadata_bytes),
            ("grpc.absolute_max_metadata_size", self.max_metadata_bytes),
            ("grpc.max_concurrent_streams", self.max_concurrent_streams),
            ("grpc.server_handshake_timeout_ms", int(self.handshake_timeout_s * 1000)),
            ("grpc.http2.min_ping_interval_without_data_ms", int(self.min_ping_interval_s * 1000)),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", int(self.min_ping_interval_s * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.so_reuseport", int(reuse_port)),
            ("grpc.enable_channelz", 0),
        )


class GrpcDoor:
    """All gRPC listeners of a gateway worker. Belongs to one event loop. ``reflection``: whether that service is there.

    ``methods``: those of typed services, where the worker's doors share them. ``meter``: measures all calls.

    ``health`` is updated here from the router's table; draining is the worker's to say, through :meth:`drain`.
    """

    def __init__(
        self,
        router: CallRouter,
        *,
        sessions: SessionHandlers | None = None,
        limits: GrpcLimits | None = None,
        reflection: bool = True,
        control: ControlRelay | None = None,
        methods: RpcMethods | None = None,
        meter: GrpcMeter | None = None,
    ) -> None:
        self._meter = meter
        self.health = Health(always=(SERVICE,))
        self._methods = methods or RpcMethods(router.table)
        self._methods.on_change.append(self._describe)
        self._router = router
        self._sessions = sessions
        self._control = control
        self._limits = limits or GrpcLimits()
        self._gathering = Gathering(router, asyncio.get_running_loop())
        self._ray = RayServeApi(router.table, self.health)
        self._reflection = (
            Reflection((serving_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, self._ray.file)) if reflection else None
        )
        self._servers: list[grpc.aio.Server] = []
        self._socket_path: str | None = None
        router.table.on_change.append(self._refresh)
        if router.table.populated:
            self._refresh()
            self._describe()

    def __repr__(self) -> str:
        return f"<GrpcDoor servers={len(self._servers)} {self.health!r}>"

    async def listen_owner(self, path: str) -> str:
        """Listens on a Unix socket whose directory only the owner may enter. Returns its address, ``unix:<path>``.

        Raises BindError.
        """
        server = _server(self._handlers(Access.owner(), longest_s=None), self._limits, reuse_port=False)
        try:
            server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise BindError(f"cannot listen on unix:{path}: {error}") from error
        os.chmod(path, 0o600)
        self._socket_path = path
        await self._start(server)
        return f"unix:{path}"

    async def listen(self, listener: TcpListener) -> str:
        """Listens on a TCP port. Returns its address, ``host:port``, with the real port.

        Raises BindError, and InsecureBindingError for an address that others can reach and nothing protects.
        """
        # A socket of our own finds out what is wrong, if anything is: gRPC would only log it.
        probe = bind(listener)
        port = probe.getsockname()[1]
        probe.close()
        address = format_address(listener.host or "[::]", port)
        acceptors = ACCEPTORS if sys.platform == "linux" else 1  # elsewhere one of them would get every connection
        handlers = self._handlers(Access.of(listener), self._limits.request_timeout_s)
        servers = [_server(handlers, self._limits, listener.reuse_port or acceptors > 1) for _ in range(acceptors)]
        try:
            credentials = None if listener.tls is None else listener.tls.server_credentials()
            for server in servers:
                if credentials is None:
                    server.add_insecure_port(address)
                else:
                    server.add_secure_port(address, credentials)
        except OSError as error:  # ssl.SSLError is one
            raise BindError(f"cannot use the certificates for {address}: {error}") from error
        except RuntimeError as error:
            raise BindError(f"cannot listen on {address}: {error}") from error
        for server in servers:
            await self._start(server)
        return address

    def drain(self) -> None:
        """First step of the end: health says NOT_SERVING. Calls are still taken."""
        self.health.drain()

    async def stop(self, grace_s: float) -> None:
        """Last step: refuses new calls and waits up to ``grace_s`` seconds for those under way; then they are cut off.

        Sessions are to be told goodbye before; one that stays holds the door for the whole time.
        """
        self.health.drain()
        self.health.close()
        if self._control is not None:
            await self._control.close()  # whoever watches a status would hold the door
        await asyncio.gather(*(server.stop(grace_s) for server in self._servers))
        self._servers.clear()
        if self._socket_path is not None:
            try:
                os.unlink(self._socket_path)
            except FileNotFoundError:
                pass
            self._socket_path = None

    def _refresh(self) -> None:
        applications = self._router.table.applications
        self.health.update({name: app.serving for name, app in applications.items()}, self._methods.statuses())

    def _describe(self) -> None:
        if self._reflection is not None:
            self._reflection.update(self._methods.services.values())

    async def _start(self, server: grpc.aio.Server) -> None:
        await server.start()
        self._servers.append(server)

    def _handlers(self, access: Access, longest_s: float | None) -> grpc.GenericRpcHandler:
        longest_us = 0 if longest_s is None else int(longest_s * 1e6) or 1
        methods = ServingHandlers(
            self._router, self._gathering, access.trust, self._limits.max_message_bytes, longest_us
        ).by_method()
        if self._meter is not None:
            methods = {path: self._meter.around(path, handler) for path, handler in methods.items()}
        methods.update(self.health.by_method())
        methods.update(self._ray.by_method())
        if self._reflection is not None:
            methods.update(self._reflection.by_method())
        if self._control is not None:
            methods.update(self._control.by_method(access.trust))
        if self._sessions is not None:
            methods[_SESSION] = self._sessions(access.trust, longest_us)
        typed = TypedHandlers(
            self._router,
            self._gathering,
            self._methods,
            access.trust,
            limit=self._limits.max_message_bytes,
            longest_us=longest_us,
            secret=not access.open,
            meter=self._meter,
        )
        return _Methods(methods, typed) if access.open else _GuardedMethods(methods, typed, access)


def _server(handlers: grpc.GenericRpcHandler, limits: GrpcLimits, reuse_port: bool) -> grpc.aio.Server:
    return grpc.aio.server(handlers=(handlers,), options=limits.options(reuse_port))


class _Methods(grpc.GenericRpcHandler):
    """All methods of a listener: the gateway's own in a table, and those of typed services, which come and go."""

    def __init__(self, methods: dict[str, Handler], typed: TypedHandlers) -> None:
        self._methods = methods
        self._typed = typed

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        return self._find(handler_call_details.method)

    def _find(self, path: str) -> Handler | None:
        return self._methods.get(path) or self._typed.find(path)


class _GuardedMethods(_Methods):
    """The same where callers have to present a token."""

    def __init__(self, methods: dict[str, Handler], typed: TypedHandlers, access: Access) -> None:
        super().__init__(methods, typed)
        self._access = access
        self._refusal: Handler = grpc.stream_stream_rpc_method_handler(_refuse)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        method = handler_call_details.method
        if self._access.admits(handler_call_details.invocation_metadata) or method.startswith(_OPEN_METHODS):
            return self._find(method)
        return self._refusal


async def _refuse(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
    error = UnauthenticatedError("callers of this port send the metadata 'authorization: Bearer <token>'")
    await context.abort(*grpc_status(outcome_of(error, trusted=False)))
    yield b""  # makes this a generator, as the handler of a stream is
