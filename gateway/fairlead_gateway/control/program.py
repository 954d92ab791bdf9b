"""One run of the controller: its server, its loop, and what ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fairlead.lifetime import process_ended
from fairlead_gateway.control.controller import Controller
from fairlead_gateway.control.gateways import BIND_FAILED
from fairlead_gateway.control.launcher import Launcher
from fairlead_gateway.control.log_files import LogFiles
from fairlead_gateway.control.ports import Ports
from fairlead_gateway.control.server import make_server
from fairlead_gateway.control.settings import ControllerSettings
from fairlead_gateway.control.store import Store, StoreError

logger = logging.getLogger("fairlead.controller")

_LAST_ANSWERS_S = 0.5
"""What is still being answered when the instance has ended has that long to go out."""


class Report:
    """Tells whoever started the controller how far it is: lines on a pipe."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def say(self, line: str, *, last: bool = False) -> None:
        """Writes a line; nobody needs to listen."""
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, f"{line}\n".encode())
        except OSError:
            last = True
        if last:
            os.close(self._descriptor)
            self._descriptor = None


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a controller works with."""

    settings: ControllerSettings
    launcher: Launcher
    store: Store | None = None
    """None: what is deployed is forgotten with the instance."""
    found: Mapping[str, int] = field(default_factory=dict)
    """Processes of an earlier controller: ids by name."""
    logs: LogFiles | None = None
    """Files to keep bounded; None: there are none."""
    running: dict[int, str] = field(default_factory=dict)
    """Programs that write to them."""
    ports: Ports | None = None
    """Ports that are held open for gateway workers."""
    forget: Callable[[], None] = lambda: None
    """Called when the instance was ended for good, rather than stopped to come up again."""


class ControllerProgram:
    """One run of the controller."""

    def __init__(self, surroundings: Surroundings, report: Report) -> None:
        """Raises StoreError."""
        loop = asyncio.get_running_loop()
        self._surroundings = surroundings
        self._settings = surroundings.settings
        self._report = report
        self._controller = Controller(surroundings.settings, surroundings.launcher, surroundings.store)
        self._status: asyncio.Future[int] = loop.create_future()
        self._shutdown: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Serves until the instance ends; the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        server = make_server(self._controller, self._stop)
        self._controller.processes.recover(self._surroundings.found)
        # The first decision is to start the gateway worker: it starts while this server does.
        watchers = [asyncio.create_task(self._decide())]
        await server.start()
        self._report.say("listening")
        watchers += [
            asyncio.create_task(self._tell_when_ready()),
            asyncio.create_task(self._fail_with_gateway()),
            asyncio.create_task(self._end_with_owner()),
        ]
        if self._surroundings.logs is not None:
            watchers.append(asyncio.create_task(self._surroundings.logs.keep_bounded(self._surroundings.running)))
        try:
            return await self._status
        finally:
            await self._controller.kill()
            await server.stop(_LAST_ANSWERS_S)
            for watcher in watchers:
                watcher.cancel()
            # Meanwhile gRPC's own tasks end, too: of those that asyncio.run has to cancel it prints tracebacks.
            await asyncio.wait(watchers)

    async def _decide(self) -> None:
        try:
            await self._controller.run()
        except Exception:
            logger.exception("the controller has a defect and ends")
            self._end(1)

    async def _tell_when_ready(self) -> None:
        async for status in self._controller.statuses.changes():
            if all(gateway.ready for gateway in status.gateways):
                break
        self._report.say("ready", last=True)

    async def _fail_with_gateway(self) -> None:
        message = await self._controller.processes.fatal
        with contextlib.suppress(StoreError):
            self._surroundings.forget()  # the options are of no use: the next start shall not take them up
        self._report.say(f"failed {message}", last=True)
        self._end(BIND_FAILED)

    async def _end_with_owner(self) -> None:
        if self._settings.owner_pid is not None:
            await process_ended(self._settings.owner_pid)
            # Nobody is left to wait for anything.
            self._end(0)

    async def _stop(self, *, forget: bool = True) -> None:
        """Raises FairleadError, and nothing has happened, if what shall be forgotten cannot be."""
        if self._shutdown is None:
            if self._status.done():
                return  # everything is being killed: there is nothing left to stop in an orderly way
            if forget:
                self._controller.forget()
            self._shutdown = asyncio.create_task(self._shut_down(forget))
            self._shutdown.add_done_callback(lambda _: self._end(0))
        await asyncio.shield(self._shutdown)

    async def _shut_down(self, forget: bool) -> None:
        await self._controller.shutdown(forget=forget)
        if forget:
            try:
                self._surroundings.forget()
            except StoreError as error:
                logger.error("%s", error)  # noqa: TRY400 - one clear line; the next start has the same options

    def _on_signal(self) -> None:
        if self._shutdown is not None or self._status.done():
            self._end(0)
            return
        # A machine that is shut down sends it too: what was deployed comes up again with the instance.
        self._signalled = asyncio.create_task(self._stop(forget=False))

    def _end(self, status: int) -> None:
        if not self._status.done():
            self._status.set_result(status)
