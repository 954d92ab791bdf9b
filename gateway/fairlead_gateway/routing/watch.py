"""The worker's view of the controller: what to route, as long as there is one to say it.

The controller may come and go: without it the worker routes by what it heard last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import grpc
import grpc.aio

from fairlead.v1 import control_pb2, control_pb2_grpc
from fairlead_gateway.routing.load_reports import LoadReports
from fairlead_gateway.routing.table import RouteTable
from fairlead_gateway.routing.upstream import Upstreams

logger = logging.getLogger(__name__)

_WatchCall: TypeAlias = "grpc.aio.StreamStreamCall[control_pb2.WatchRequest, control_pb2.WatchResponse]"

BEAT_S = 0.5
"""Seconds between two signs of life, as from replicas."""
FIRST_RETRY = 0.05
LAST_RETRY = 2.0

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", int(FIRST_RETRY * 1000)),
    ("grpc.min_reconnect_backoff_ms", int(LAST_RETRY * 1000)),
    ("grpc.max_reconnect_backoff_ms", int(LAST_RETRY * 1000)),  # its own is two minutes
)


class Watch:
    """Follows the controller's snapshots and acknowledges each once it is in force."""

    def __init__(
        self,
        controller: str,
        table: RouteTable,
        upstreams: Upstreams,
        about: control_pb2.WatchRequest,
        on_drain: Callable[[], None],
        patience_s: float = 600.0,
        open_doors: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``about``: what the worker says of itself.

        ``open_doors``: called once, when the first snapshot is in force and before it is acknowledged: a worker without
        routes must not answer for others that have them. What it raises ends :meth:`run`.
        ``on_drain``: called when the controller wants it to end, or there was none for ``patience_s`` seconds.
        """
        self._controller = controller
        self._table = table
        self._upstreams = upstreams
        self._about = about
        self._on_drain = on_drain
        self._patience_s = patience_s
        self._open_doors = open_doors
        self._reports = LoadReports(table)
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Runs until cancelled, or there is no controller for too long."""
        loop = asyncio.get_running_loop()
        delay = FIRST_RETRY
        lost_at = loop.time()
        async with grpc.aio.insecure_channel(self._controller, options=_OPTIONS) as channel:
            stub = control_pb2_grpc.ControlServiceStub(channel)
            while True:
                call = stub.Watch(wait_for_ready=True)
                give_up_at = lost_at + self._patience_s
                heard = False
                speaking = [asyncio.create_task(self._report(call)), asyncio.create_task(self._beat(call))]
                try:
                    self._about.applied_version = 0  # another controller counts anew
                    async with asyncio.timeout_at(give_up_at):
                        await self._say(call)
                        snapshot = await call.read()
                    while isinstance(snapshot, control_pb2.WatchResponse):
                        delay = FIRST_RETRY
                        heard = True
                        await self._apply(snapshot)
                        await self._say(call)
                        snapshot = await call.read()
                except TimeoutError:
                    logger.warning("no controller for %.0f s; this worker drains and ends", self._patience_s)
                    self._on_drain()
                    return
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the latter: written to when it was over
                    logger.debug("the controller is away: %r", call)
                finally:
                    for task in speaking:
                        task.cancel()
                    call.cancel()
                    if heard:
                        lost_at = loop.time()
                await asyncio.sleep(delay)
                delay = min(delay * 2, LAST_RETRY)

    async def _say(self, call: _WatchCall) -> None:
        async with self._writing:
            await call.write(self._about)

    async def _beat(self, call: _WatchCall) -> None:
        """Shows that the worker is not frozen, while the stream lasts."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                await asyncio.sleep(BEAT_S)
                await self._say(call)

    async def _report(self, call: _WatchCall) -> None:
        """Tells the worker's calls, from the first snapshot on, while the stream lasts."""

        async def tell(loads: list[control_pb2.DeploymentLoad]) -> None:
            del self._about.loads[:]
            self._about.loads.extend(loads)
            await self._say(call)

        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # whoever reads notices it, too
            await self._reports.run(list(self._about.loads), tell)

    async def _apply(self, snapshot: control_pb2.WatchResponse) -> None:
        await self._upstreams.apply(self._table.apply(snapshot))
        if self._open_doors is not None:
            await self._open_doors()
            self._open_doors = None
        self._about.applied_version = snapshot.version
        if snapshot.drain:
            self._on_drain()
