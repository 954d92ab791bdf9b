"""The HTTP door: the application on uvicorn, in the worker's own event loop."""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Sequence
from functools import partial
from typing import Any

import uvicorn

from fairlead_gateway.edge.access import Access
from fairlead_gateway.edge.binding import BindError, TcpListener, bind, format_address
from fairlead_gateway.edge.http import HttpApp
from fairlead_gateway.edge.http_bodies import Incoming
from fairlead_gateway.edge.http_limits import HttpLimits
from fairlead_gateway.edge.http_meter import HttpMeter
from fairlead_gateway.edge.http_middlewares import wrapped
from fairlead_gateway.edge.http_protocol import DoorConfig, DoorProtocol
from fairlead_gateway.edge.typed.methods import RpcMethods
from fairlead_gateway.edge.upstream import CallRouter
from fairlead_gateway.metrics.doors import DoorMeasures


class HttpDoor:
    """One HTTP listener. Belongs to one event loop. ``root_path``: a prefix that a proxy has removed from all paths.

    ``middlewares``: Starlette's, around everything that the door answers; the last one is the outermost.
    ``measures``: what requests are counted in; None: they are not. ``access_log``: whether each is logged.
    ``methods``: those of typed services, where the worker's doors share them.
    """

    def __init__(
        self,
        router: CallRouter,
        listener: TcpListener,
        *,
        limits: HttpLimits | None = None,
        root_path: str = "",
        middlewares: Sequence[Any] = (),
        measures: DoorMeasures | None = None,
        access_log: bool = False,
        methods: RpcMethods | None = None,
    ) -> None:
        access = Access.of(listener)
        self.app = HttpApp(router, limits=limits, access=access, root_path=root_path, methods=methods)
        measured = self.app if measures is None else HttpMeter(self.app, measures, logs=access_log)
        self._asgi = wrapped(measured, middlewares)
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
        # The parts of Server.serve() without its signal handlers, which are the worker's business.
        server.lifespan = config.lifespan_class(config)
        listening = await asyncio.get_running_loop().create_server(
            partial(DoorProtocol, config=config, server_state=server.server_state, app_state={}),
            sock=bound,
            backlog=config.backlog,
            ssl=config.ssl,
            # Whoever goes on reading may take any time; Patience gives up the others.
            ssl_shutdown_timeout=math.inf if config.ssl else None,
        )
        server.servers = [listening]
        self._clock = asyncio.get_running_loop().create_task(_keep_date(server))
        return format_address(host, port)

    def drain(self) -> None:
        """First step of the end: ``/-/healthz`` answers 503. Requests are still taken."""
        self.app.builtins.draining = True

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
        config = DoorConfig(
            self._asgi,
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
        config.limits, config.incoming = limits, Incoming()
        return config


async def _keep_date(server: uvicorn.Server) -> None:
    """What is left of Server.main_loop(): the date header, which has a resolution of one second."""
    while not await server.on_tick(0):  # noqa: ASYNC110 - it is the time that is waited for
        await asyncio.sleep(1.0)
