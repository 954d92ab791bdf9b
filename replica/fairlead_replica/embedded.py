"""A replica in a thread of somebody else's process, for local testing mode.

The user's code runs as in a process of its own: on an event loop that is its replica's alone, synchronous methods in
threads. It shares modules with everything else in the process, so environment and ``sys.path`` are left alone, and
nobody checks its health after the start: a debugger may stop it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from fairlead.serve.context import ReplicaContext, enter_replica_context
from fairlead.serve.multiplexing.registry import Registry, own_registry
from fairlead.v1 import control_pb2, session_pb2
from fairlead.wire.errors import ConnectionLostError
from fairlead.wire.inprocess import InProcessListener
from fairlead.wire.link import Link
from fairlead_replica import assignment
from fairlead_replica.hosting import host

logger = logging.getLogger(__name__)

_FAREWELL_S = 3.0
"""Seconds beyond its time to drain after which a replica that does not end is left to the end of the process."""


class EmbeddedReplica:
    """One replica. Its methods may be called from any thread unless they say otherwise."""

    def __init__(
        self,
        code: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        settings: control_pb2.DeploymentSettings,
        context: ReplicaContext,
        interface: control_pb2.DeploymentInterface | None = None,
    ) -> None:
        """``code``: the class or function, or its import path. ``interface``: what it offers at doors."""
        self.replica_id = context.replica_id
        self._code = code
        self._arguments = args, kwargs
        self._settings = settings
        self._context = context
        self._interface = interface
        self._listener: InProcessListener | None = None
        self._ready: Future[None] = Future()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Future[None]
        self._thread = threading.Thread(target=self._run, name=f"fairlead {self.replica_id}", daemon=True)

    def __repr__(self) -> str:
        return f"<EmbeddedReplica {self.replica_id} {self._listener!r}>"

    def start(self) -> None:
        """Starts constructing the user's object, in the replica's thread."""
        self._thread.start()

    def wait_ready(self) -> None:
        """Blocks until it can be called. Raises what the user's constructor, or another of its hooks, raised."""
        self._ready.result()

    async def connect(self, on_load: Callable[[session_pb2.Load], None]) -> Link:
        """A session with it, on the running loop. Raises ConnectionLostError."""
        if self._listener is None:
            raise ConnectionLostError(f"replica {self.replica_id} has ended")
        return await self._listener.dial(on_load)

    def stop(self) -> None:
        """Has it drain and end, as soon as it is ready. See :meth:`join`."""
        self._stopping = True
        if self._ready.done() and self._ready.exception() is None:
            self._loop.call_soon_threadsafe(self._stop.cancel)

    def join(self) -> None:
        """Blocks until it has ended, or has had the time that the deployment's settings give it."""
        self._thread.join(self._settings.graceful_shutdown_timeout_s + _FAREWELL_S)

    def _run(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = self._loop.create_future()
        links: set[Link] = set()
        registry = Registry()
        own_registry.set(registry)
        args, kwargs = self._arguments
        try:
            hosted = await host(
                assignment.resolve(self._code),
                args,
                kwargs,
                settings=self._settings,
                context=self._context,
                set_context=enter_replica_context,
                registry=registry,
                links=links,
                interface=self._interface,
            )
        except BaseException as error:  # SystemExit too: it is for whoever deploys
            self._ready.set_exception(error)
            return
        runtime = hosted.runtime
        self._listener = InProcessListener(runtime.accept, links=links, on_link=runtime.opened)
        self._ready.set_result(None)
        if self._stopping:  # asked to in between: whoever asks looks at the two in the other order
            self._stop.cancel()
        await asyncio.wait({self._stop})
        listener, self._listener = self._listener, None
        await hosted.end(self._settings.graceful_shutdown_timeout_s)
        await listener.close()
