"""``python -m fairlead_gateway.control``: the controller of one instance."""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from fairlead.lifetime import PROCESSES
from fairlead.variables import HTTP_KEY_PASSWORD, TOKEN, TRACING
from fairlead_gateway.control.gateways import BIND_FAILED, Door, Doors, OtherOptionsError
from fairlead_gateway.control.local_launcher import LocalLauncher
from fairlead_gateway.control.ports import Ports
from fairlead_gateway.control.program import ControllerProgram, Report, Surroundings
from fairlead_gateway.control.settings import ControllerSettings
from fairlead_gateway.control.state_lock import StateLockedError
from fairlead_gateway.control.store import StoreError
from fairlead_gateway.edge.binding import BindError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a controller until it is told to shut down or its owner has ended; the exit status."""
    given = list(sys.argv[1:] if argv is None else argv)
    cut = given.index("--") if "--" in given else len(given)
    arguments, instance_options = _parser().parse_known_args(given[:cut])
    instance_options += given[cut:]
    _set_up_logging(arguments.log_level)
    report = Report(arguments.ready_fd)
    # Taken out of the environment that replicas inherit: it is not theirs.
    password = os.environ.pop(HTTP_KEY_PASSWORD, None)
    try:
        make = _standing if arguments.standing else _owned
        surroundings = make(arguments, instance_options, password)
    except (StoreError, StateLockedError, OtherOptionsError, BindError, OSError) as error:
        reason = _reason(error, arguments.directory)
        if arguments.ready_fd is None:
            sys.stderr.write(f"fairlead: {reason}\n")
        report.say(f"failed {reason}", last=True)
        return BIND_FAILED
    try:
        return asyncio.run(_run(surroundings, report))
    finally:
        if arguments.owner_pid is not None:
            shutil.rmtree(arguments.directory, ignore_errors=True)


def _reason(error: Exception, directory: Path) -> str:
    """Why there is no controller, in a line that says where and what to do."""
    if not isinstance(error, OSError) or isinstance(error, BindError):
        return str(error)
    advice = "free some space on that disk" if error.errno == errno.ENOSPC else "make it writable for this user"
    return f"{error.filename or directory} cannot be written: {error.strerror}; {advice}, or set FAIRLEAD_STATE_DIR"


def _owned(arguments: argparse.Namespace, options: list[str], password: str | None) -> Surroundings:
    """For an instance that ends with its driver."""
    instance, doors = _instance_options(options)
    ports = Ports()
    if instance.gateways > 1:
        doors = ports.reserve(doors)
    launcher = LocalLauncher(logging.getLogger("fairlead.output"), arguments.directory / PROCESSES)
    return Surroundings(settings=_settings(arguments, instance, doors, password), launcher=launcher, ports=ports)


def _standing(arguments: argparse.Namespace, options: list[str], password: str | None) -> Surroundings:
    """For an instance that outlives its controllers."""
    # Here, for owned instances to start without SQLite.
    from fairlead_gateway.control.standing_instance import StandingInstance

    standing = StandingInstance(arguments.directory)
    secrets = {"token": os.environ.get(TOKEN, ""), "password": password or ""}
    options = standing.options(options, secrets, as_before=arguments.as_before)
    instance, doors = _instance_options(options)
    doors = Doors(http=standing.door("http", doors.http), grpc=standing.door("grpc", doors.grpc), options=doors.options)
    doors = standing.ports.reserve(doors, shared_already=standing.has_gateways)
    standing.remember(options, secrets, doors.http, doors.grpc)
    return Surroundings(
        settings=_settings(arguments, instance, doors, password),
        launcher=standing.launcher,
        store=standing.store,
        found=standing.found,
        logs=standing.logs,
        running=standing.launcher.running,
        forget=standing.forget,
        ports=standing.ports,
    )


async def _run(surroundings: Surroundings, report: Report) -> int:
    return await ControllerProgram(surroundings, report).run()


def _settings(
    arguments: argparse.Namespace, instance: argparse.Namespace, doors: Doors, password: str | None
) -> ControllerSettings:
    if instance.tracing is not None:
        os.environ[TRACING] = instance.tracing  # which all programs of the instance inherit
    return ControllerSettings(
        directory=arguments.directory,
        doors=doors,
        owner_pid=arguments.owner_pid,
        gateways=instance.gateways,
        patience_s=instance.controller_patience,
        gateway_variables={} if password is None else {HTTP_KEY_PASSWORD: password},
    )


def _instance_options(options: list[str]) -> tuple[argparse.Namespace, Doors]:
    cut = options.index("--") if "--" in options else len(options)
    values = _instance_parser().parse_args(options[:cut])
    doors = Doors(
        http=None if values.no_http else Door(host=values.http_host, port=values.http_port),
        grpc=None if values.no_grpc else Door(host=values.grpc_host, port=values.grpc_port),
        options=tuple(options[cut + 1 :]),
    )
    return values, doors


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
    parser = argparse.ArgumentParser(
        prog="python -m fairlead_gateway.control",
        description=__doc__,
        epilog="Further options, those of the instance: --gateways, --http-port and others; see _instance_parser.",
        allow_abbrev=False,
    )
    parser.add_argument("--directory", type=Path, required=True, help="holds the sockets; owner-only; must exist")
    parser.add_argument("--owner-pid", type=int, help="end with this process, and remove the directory")
    parser.add_argument("--standing", action="store_true", help="keep the state in the directory, and outlive crashes")
    parser.add_argument(
        "--as-before", action="store_true", help="standing: with the instance options of the last start"
    )
    parser.add_argument("--ready-fd", type=int, help="write 'listening', then 'ready' or 'failed <why>' to this pipe")
    parser.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"])
    return parser


def _instance_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fairlead_gateway.control", allow_abbrev=False)
    parser.add_argument("--http-host", default="127.0.0.1")
    parser.add_argument("--http-port", type=int, default=8000)
    parser.add_argument("--no-http", action="store_true", help="open no HTTP door")
    parser.add_argument("--grpc-host", default="127.0.0.1")
    parser.add_argument("--grpc-port", type=int, default=9000)
    parser.add_argument("--no-grpc", action="store_true", help="open no gRPC door")
    parser.add_argument("--gateways", type=int, default=1, help="how many gateway workers")
    parser.add_argument("--tracing", metavar="JSON", help="a TracingConfig for gateway workers and replicas")
    parser.add_argument("--controller-patience", type=float, metavar="SECONDS", help="see gateway workers and replicas")
    parser.add_argument("options", nargs="*", metavar="-- OPTIONS", help="options of gateway workers, passed on")
    return parser


if __name__ == "__main__":
    sys.exit(main())
