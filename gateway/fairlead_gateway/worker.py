"""A gateway worker: the router, its doors, and the watch that tells it what to route."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.lifetime import process_ended
from fairlead.serve.logs import LoggingConfig
from fairlead.serve.measures import Registry
from fairlead.v1 import control_pb2
from fairlead_gateway.edge.binding import TcpListener
from fairlead_gateway.edge.control_relay import ControlRelay
from fairlead_gateway.edge.grpc_door import GrpcDoor, GrpcLimits
from fairlead_gateway.edge.grpc_meter import GrpcMeter
from fairlead_gateway.edge.http_door import HttpDoor
from fairlead_gateway.edge.http_limits import HttpLimits
from fairlead_gateway.edge.http_middlewares import load
from fairlead_gateway.edge.metrics_page import MetricsPage
from fairlead_gateway.edge.session_door import SessionDoor
from fairlead_gateway.edge.typed.methods import RpcMethods
from fairlead_gateway.metrics.doors import DoorMeasures
from fairlead_gateway.metrics.routes import deployment_families
from fairlead_gateway.metrics.scrape import Scrape
from fairlead_gateway.routing.router import Router
from fairlead_gateway.routing.upstream import Upstreams
from fairlead_gateway.routing.watch import Watch

logger = logging.getLogger(__name__)

ORPHANED_DRAIN_S = 3.0
"""Seconds that calls under way may take when the owner is gone: hardly anybody waits for their answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerConfig:
    """What a gateway worker is told when it starts."""

    controller: str
    """The controller's address: "unix:/path"."""
    gateway_id: str
    """The worker's name."""
    socket: str
    """The path of the Unix socket for trusted callers over gRPC; sessions get one beside it that ends in ``.wire``."""
    http: TcpListener | None = None
    """The HTTP port; None: none."""
    grpc: TcpListener | None = None
    """The gRPC port; None: none."""
    http_limits: HttpLimits = field(default_factory=HttpLimits)
    """What HTTP clients may do."""
    grpc_limits: GrpcLimits = field(default_factory=GrpcLimits)
    """What gRPC peers may do."""
    root_path: str = ""
    """The prefix that a proxy has removed from HTTP paths."""
    reflection: bool = True
    """Whether gRPC reflection is there."""
    logging: LoggingConfig | None = None
    """How it logs; None: text, without access log."""
    owner_pid: int | None = None
    """A process to end with; None: none."""
    patience_s: float = 600.0
    """Seconds without a controller after which the worker ends."""
    drain_s: float = 20.0
    """Seconds that calls under way may take when the worker ends."""


class Worker:
    """A gateway worker, from its start to its end."""

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self.router = Router(asyncio.get_running_loop())
        self._upstreams = Upstreams()
        self._sessions = SessionDoor(self.router)
        methods = RpcMethods(self.router.table)
        self._session_address = ""
        registry = Registry({"gateway": config.gateway_id})
        logs = config.logging is not None and config.logging.enable_access_log
        registry.collectors.append(lambda: deployment_families(self.router.table))
        scrape = Scrape(registry, self.router.table, lambda: self._session_address)
        self._sessions.report = scrape.own
        self._grpc = GrpcDoor(
            self.router,
            methods=methods,
            sessions=self._sessions.handler,
            limits=config.grpc_limits,
            reflection=config.reflection,
            control=ControlRelay(config.controller),
            meter=GrpcMeter(DoorMeasures(registry, "grpc"), logs=logs),
        )
        self._http: HttpDoor | None = None
        if config.http is not None:
            self._http = HttpDoor(
                self.router,
                config.http,
                limits=config.http_limits,
                root_path=config.root_path,
                middlewares=load(Path(config.socket).parent),
                methods=methods,
                measures=DoorMeasures(registry, "http"),
                access_log=logs,
            )
            self._http.app.builtins.metrics = MetricsPage(scrape)
        self._ending = asyncio.Event()
        self._grace_s = config.drain_s

    def stop(self) -> None:
        """Makes :meth:`run` drain and return."""
        self._ending.set()

    async def run(self) -> None:
        """Serves until told to stop, or the owner is gone. Raises BindError for a port that is not to be had."""
        config = self.config
        about = control_pb2.WatchRequest(gateway_id=config.gateway_id, pid=os.getpid())
        background: list[asyncio.Task[object]] = []
        try:
            watch = Watch(
                config.controller,
                self.router.table,
                self._upstreams,
                about,
                self.stop,
                config.patience_s,
                lambda: self._open_doors(about),
            )
            background.append(asyncio.create_task(watch.run()))
            if config.owner_pid is not None:
                background.append(asyncio.create_task(self._end_with(config.owner_pid)))
            background.append(asyncio.create_task(self._ending.wait()))
            done, _ = await asyncio.wait(background, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await self._drain()
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await self._upstreams.close()

    async def _open_doors(self, about: control_pb2.WatchRequest) -> None:
        config = self.config
        if config.grpc is not None:
            about.grpc_address = await self._grpc.listen(config.grpc)
            about.grpc_tls = config.grpc.tls is not None
        if self._http is not None and config.http is not None:
            about.http_address = await self._http.start()
            about.http_tls = config.http.tls is not None
        about.trusted_address = await self._grpc.listen_owner(config.socket)
        about.session_address = await self._sessions.listen_owner(str(Path(config.socket).with_suffix(".wire")))
        self._session_address = about.session_address
        logger.debug("ready: gRPC %s, HTTP %s", about.grpc_address or "off", about.http_address or "off")

    async def _end_with(self, pid: int) -> None:
        await process_ended(pid)
        logger.info("the owner, process %d, is gone", pid)
        self._grace_s = min(self._grace_s, ORPHANED_DRAIN_S)
        self.stop()

    async def _drain(self) -> None:
        """The order matters: say so, take no new calls, finish those under way, then close."""
        grace = self._grace_s
        self._grpc.drain()
        if self._http is not None:
            self._http.drain()
        self._sessions.goodbye()
        self.router.reservations.end()
        try:
            await asyncio.wait_for(self._sessions.wait_idle(), grace)
        except TimeoutError:
            logger.warning("calls were still under way after %.0f s; they are cut off", grace)
        await self._sessions.close()
        self.router.draining = True
        doors = [self._grpc.stop(grace)]
        if self._http is not None:
            doors.append(self._http.stop(grace))
        await asyncio.gather(*doors)
