"""The HTTP door: the application on uvicorn, in the worker's own event loop."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fairlead_gateway.edge.access import Access
from fairlead_gateway.edge.answers import Answer
from fairlead_gateway.edge.binding import BindError, TcpListener, bind, format_address
from fairlead_gateway.edge.http import CONNECTION, HttpApp, HttpLimits
from fairlead_gateway.edge.upstream import CallRouter

_HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_HEAD_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_COPY_LIMIT = 64 * 1024
"""Bytes of a body above which copying it costs more than a system call."""


class HttpDoor:
    """One HTTP listener. Belongs to one event loop. ``root_path``: a prefix that a proxy has removed from all paths."""

    def __init__(
        self, router: CallRouter, listener: TcpListener, *, limits: HttpLimits | None = None, root_path: str = ""
    ) -> None:
        self.app = HttpApp(router, limits=limits, access=Access.of(listener), root_path=root_path)
        self._listener = listener
        self._server: uvicorn.Server | None = None
        self._clock: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Listens. Returns the address, ``host:port``, with the real port. Raises BindError, InsecureBindingError."""
        bound = bind(self._listener)
        host, port = bound.getsockname()[:2]
        config = self._config()
        try:
            if self._listener.tls is not None:
                self._listener.tls.check()
            config.load()
        except OSError as error:  # ssl.SSLError is one
            bound.close()
            raise BindError(f"cannot use the certificates for {format_address(host, port)}: {error}") from error
        server = self._server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        # The parts of Server.serve() without its signal handlers, which are the worker's business.
        await server.startup(sockets=[bound])
        self._clock = asyncio.get_running_loop().create_task(_keep_date(server))
        return format_address(host, port)

    def drain(self) -> None:
        """First step of the end: ``/-/healthz`` answers 503. Requests are still taken."""
        self.app.draining = True

    async def stop(self, grace_s: float) -> None:
        """Closes the port, lets requests finish for up to ``grace_s`` seconds, and cuts off those that do not."""
        server, clock = self._server, self._clock
        if server is None or clock is None:
            return
        self._server = self._clock = None
        clock.cancel()
        await asyncio.wait({clock})
        server.config.timeout_graceful_shutdown = max(1, round(grace_s))
        await server.shutdown()

    def _config(self) -> uvicorn.Config:
        listener, limits = self._listener, self.app.limits
        tls: dict[str, Any] = {}
        if listener.tls is not None:
            tls = {
                "ssl_certfile": listener.tls.certificate_file,
                "ssl_keyfile": listener.tls.key_file,
                "ssl_keyfile_password": listener.tls.key_password,
            }
            if listener.tls.client_ca_file is not None:
                tls |= {"ssl_ca_certs": listener.tls.client_ca_file, "ssl_cert_reqs": ssl.CERT_REQUIRED}
        return uvicorn.Config(
            self.app,
            http=DoorProtocol,
            ws="none",
            loop="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            # Given, so that uvicorn does not look into the environment.
            forwarded_allow_ips="",
            workers=1,
            timeout_keep_alive=limits.keep_alive_timeout_s,  # type: ignore[arg-type]  # fractions do as well
            **tls,
        )


async def _keep_date(server: uvicorn.Server) -> None:
    """What is left of Server.main_loop(): the date header, which has a resolution of one second."""
    while not await server.on_tick(0):  # noqa: ASYNC110 - it is the time that is waited for
        await asyncio.sleep(1.0)


class _Connection:
    """A transport, as much of it as uvicorn uses, and a HttpConnection.

    uvicorn writes the head of a response and its body one after the other, a system call each. Here they go out in one.
    """

    __slots__ = (
        "_held",
        "_holding",
        "_transport",
        "get_extra_info",
        "is_closing",
        "pause_reading",
        "resume_reading",
        "running",
    )

    def __init__(self, transport: asyncio.Transport) -> None:
        self.running: Answer | None = None
        self._transport = transport
        self._holding = False
        self._held = b""
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, data: bytes) -> None:
        if self._holding:
            self._holding = False
            self._held = data
        elif self._held:
            held, self._held = self._held, b""
            if len(data) > _COPY_LIMIT:
                self._transport.write(held)
            else:
                data = held + data
            self._transport.write(data)
        else:
            self._transport.write(data)

    def hold(self) -> None:
        self._holding = True

    def flush(self) -> None:
        self._holding = False
        if self._held:
            self.write(b"")

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def lost(self) -> None:
        """The client is gone."""
        running, self.running = self.running, None
        if running is not None:
            running.close()


class DoorProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which also bounds the head of a request and says when a client has gone.

    A well-behaved request, whose head comes in one piece, pays for none of it.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits: HttpLimits = self.config.app.limits  # type: ignore[union-attr]
        self._connection: _Connection
        self._in_head = True
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        self._connection = _Connection(transport)
        super().connection_made(cast(asyncio.Transport, self._connection))
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._stop_timer()
        super().connection_lost(exc)
        self._connection.lost()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.max_head_bytes:
                self._reject(_HEAD_TOO_LARGE)
            elif self._head_timer is None:
                self._expect_head()

    def on_message_begin(self) -> None:
        """A request has begun."""
        super().on_message_begin()
        self._in_head = True
        self.scope[CONNECTION] = self._connection  # type: ignore[literal-required]

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._in_head = False
        self._head_bytes = 0
        if self._head_timer is not None:
            self._stop_timer()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.head_timeout_s, self._reject, _HEAD_TOO_LATE)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _reject(self, response: bytes) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(response)
            self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """The application answers; there is nothing for the operator to install."""
