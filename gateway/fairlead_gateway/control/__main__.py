"""``python -m fairlead_gateway.control``: the controller of one instance."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from fairlead.lifetime import PROCESSES, process_ended
from fairlead.variables import HTTP_KEY_PASSWORD
from fairlead_gateway.control.controller import Controller, ControllerSettings
from fairlead_gateway.control.gateways import BIND_FAILED, Door, Doors
from fairlead_gateway.control.local_launcher import LocalLauncher
from fairlead_gateway.control.server import make_server

logger = logging.getLogger("fairlead.controller")

_LAST_ANSWERS_S = 0.5
"""What is still being answered when the instance has ended has that long to go out."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a controller until it is told to shut down or its owner has ended; the exit status."""
    arguments = _parser().parse_args(argv)
    _set_up_logging(arguments.log_level)
    report = _Report(arguments.ready_fd)
    # Taken out of the environment that replicas inherit: it is not theirs.
    password = os.environ.pop(HTTP_KEY_PASSWORD, None)
    settings = ControllerSettings(
        directory=arguments.directory,
        doors=Doors(
            http=None if arguments.no_http else Door(host=arguments.http_host, port=arguments.http_port),
            grpc=None if arguments.no_grpc else Door(host=arguments.grpc_host, port=arguments.grpc_port),
            options=tuple(arguments.options),
        ),
        owner_pid=arguments.owner_pid,
        gateway_variables={} if password is None else {HTTP_KEY_PASSWORD: password},
    )
    try:
        return asyncio.run(_run(settings, report))
    finally:
        if arguments.owner_pid is not None:
            shutil.rmtree(arguments.directory, ignore_errors=True)


class _Report:
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


class _Program:
    """One run of the controller."""

    def __init__(self, settings: ControllerSettings, report: _Report) -> None:
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._report = report
        launcher = LocalLauncher(logging.getLogger("fairlead.output"), settings.directory / PROCESSES)
        self._controller = Controller(settings, launcher)
        self._status: asyncio.Future[int] = loop.create_future()
        self._shutdown: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Serves until the instance ends; the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        server = make_server(self._controller, self._stop)
        # The first decision is to start the gateway worker: it starts while this server does.
        watchers = [asyncio.create_task(self._decide())]
        await server.start()
        self._report.say("listening")
        watchers += [
            asyncio.create_task(self._tell_when_ready()),
            asyncio.create_task(self._fail_with_gateway()),
            asyncio.create_task(self._end_with_owner()),
        ]
        try:
            return await self._status
        finally:
            await self._controller.kill()
            await server.stop(_LAST_ANSWERS_S)
            for watcher in watchers:
                watcher.cancel()

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
        message = await self._controller.fatal
        self._report.say(f"failed {message}", last=True)
        self._end(BIND_FAILED)

    async def _end_with_owner(self) -> None:
        if self._settings.owner_pid is not None:
            await process_ended(self._settings.owner_pid)
            # Nobody is left to wait for anything.
            self._end(0)

    async def _stop(self) -> None:
        if self._shutdown is None:
            self._shutdown = asyncio.create_task(self._controller.shutdown())
            self._shutdown.add_done_callback(lambda _: self._end(0))
        await asyncio.shield(self._shutdown)

    def _on_signal(self) -> None:
        if self._shutdown is not None:
            self._end(0)
            return
        self._signalled = asyncio.create_task(self._stop())

    def _end(self, status: int) -> None:
        if not self._status.done():
            self._status.set_result(status)


async def _run(settings: ControllerSettings, report: _Report) -> int:
    return await _Program(settings, report).run()


def _set_up_logging(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("fairlead")
    root.addHandler(handler)
    root.setLevel(level.upper())
    # What replicas write is passed on as it is, whatever the level of the controller's own lines.
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(logging.Formatter("%(message)s"))
    output = logging.getLogger("fairlead.output")
    output.addHandler(lines)
    output.setLevel(logging.INFO)
    output.propagate = False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fairlead_gateway.control", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="holds the sockets; owner-only; must exist")
    parser.add_argument("--owner-pid", type=int, help="end with this process, and remove the directory")
    parser.add_argument("--ready-fd", type=int, help="write 'listening', then 'ready' or 'failed <why>' to this pipe")
    parser.add_argument("--http-host", default="127.0.0.1")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--no-http", action="store_true", help="open no HTTP door")
    parser.add_argument("--grpc-host", default="127.0.0.1")
    parser.add_argument("--grpc-port", type=int, default=9000)
    parser.add_argument("--no-grpc", action="store_true", help="open no gRPC door")
    parser.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"])
    parser.add_argument("options", nargs="*", metavar="-- OPTIONS", help="options of gateway workers, passed on")
    return parser


if __name__ == "__main__":
    sys.exit(main())
