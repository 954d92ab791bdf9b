"""``fairlead start``, ``shutdown``, ``logs``: the standing instance as a whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from fairlead.cli.applications import doors_of
from fairlead.cli.config_file import load_config
from fairlead.cli.door_options import Insecure, TlsCert, TlsClientCa, TlsKey, tls_settings
from fairlead.cli.finding import Address, choose
from fairlead.cli.status_text import print_json, say, where_lines
from fairlead.serve import api, environment, standing
from fairlead.serve.config import HTTPOptions, gRPCOptions
from fairlead.serve.deploy_schema import suggestion
from fairlead.serve.doors import Doors
from fairlead.serve.instance import Instance
from fairlead.serve.owned_instance import answers
from fairlead.wire.errors import FairleadError


def start(
    config: Annotated[str | None, typer.Option("--config", "-c", help="Take http_options, … of this file.")] = None,
    http_host: Annotated[str | None, typer.Option(help="The HTTP address. Default: 127.0.0.1.")] = None,
    http_port: Annotated[
        int | None, typer.Option(help="The HTTP port; 0: any. Default: 8000.", min=0, max=65535)
    ] = None,
    grpc_host: Annotated[str | None, typer.Option(help="The gRPC address. Default: 127.0.0.1.")] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="The gRPC port; 0: any. Default: 9000.", min=0, max=65535)
    ] = None,
    gateways: Annotated[int | None, typer.Option(help="How many gateway workers share the ports.", min=1)] = None,
    insecure: Insecure = False,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
    controller_patience: Annotated[
        float, typer.Option(help="Seconds that the rest serves without a controller.", min=1)
    ] = standing.PATIENCE_S,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Be the controller, and log to stderr: for systemd and containers.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print where it can be called as JSON.")] = False,
) -> None:
    """Start the standing instance: it belongs to no program, and ends by `fairlead shutdown`.

    Where its controller has ended without being told to, this brings it back: what runs is taken over, no call fails.
    Without options it is started as the last time.
    """
    if answers(standing.directory() / "controller.sock"):
        raise FairleadError(
            f"an instance runs already in {standing.directory()}; `fairlead status` shows it, "
            f"`fairlead shutdown` ends it"
        )
    given: dict[str, Any] = {
        "http": {"host": http_host, "port": http_port},
        "grpc": {"host": grpc_host, "port": grpc_port},
        "tls": tls_settings(tls_cert, tls_key, tls_client_ca),
    }
    doors = _doors(config, given, gateways, insecure)
    if foreground:
        standing.become(doors, patience_s=controller_patience)
    standing.start(doors, patience_s=controller_patience)
    status = Instance(f"unix:{standing.directory() / 'controller.sock'}").status()
    if json:
        print_json({"gateways": [{"http": one.http_address, "grpc": one.grpc_address} for one in status.gateways]})
        return
    say(f"the instance runs: controller process {status.controller.pid}, {len(status.gateways)} gateway worker(s)")
    for line in where_lines(
        status, encrypted=doors is not None and doors.http is not None and bool(doors.http.ssl_certfile)
    ):
        say(line)


def _doors(config: str | None, given: dict[str, Any], gateways: int | None, insecure: bool) -> Doors | None:
    """None: nothing was given."""
    chosen = {
        group: {name: value for name, value in values.items() if value is not None} for group, values in given.items()
    }
    if config is not None:
        if any(chosen.values()) or gateways is not None:
            raise FairleadError("with --config the file says it all: leave out the options for ports, TLS and gateways")
        return doors_of(load_config(config), insecure=insecure)
    if not any(chosen.values()) and gateways is None and not insecure:
        return None
    http = HTTPOptions(**chosen["http"], **chosen["tls"])
    return Doors.of(None, http, gRPCOptions(**chosen["grpc"], **chosen["tls"]), insecure, gateways or 1)


def shutdown(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False, address: Address = None
) -> None:
    """Drain and delete all applications, and end the instance.

    Also what a controller that was killed has left.
    """
    if address is None and environment.address() is None and standing.orphans():
        standing.end_orphans_for_good()
        say("the controller was gone; what it had left has ended")
        return
    choose(address)
    if not yes and not typer.confirm("End the instance, and delete all that is deployed?"):
        raise typer.Exit(1)
    api.shutdown()
    say("the instance has ended")


def logs(
    name: Annotated[
        str | None, typer.Argument(help="controller, gateway-0, or a replica's id; part of it will do.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many lines.", min=0)] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
) -> None:
    """Print what the standing instance's processes have written; without a name, list their files."""
    directory = standing.directory() / standing.LOGS
    files = {one.stem: one for one in sorted(directory.glob("*.log"), key=lambda one: one.stat().st_mtime)}
    if name is None:
        for each, file in files.items():
            typer.echo(f"{file.stat().st_size:>10}  {each}  {file}")
        return
    stem = name if name in files else next((one for one in reversed(files) if name in one), None)
    if stem is None:
        raise FairleadError(f"there is no log of '{name}' in {directory}; {suggestion(name, files)}")
    path = files[stem]
    text = path.read_text(errors="backslashreplace").splitlines()
    for line in text[max(0, len(text) - lines) :]:
        typer.echo(line)
    if follow:
        for piece in _further(path):
            typer.echo(piece, nl=False)


def _further(path: Path) -> Iterator[str]:
    """What is written from now on; begins anew when the file was put aside."""
    with open(path, errors="backslashreplace") as file:
        file.seek(0, 2)
        while True:
            if piece := file.read():
                yield piece
                continue
            if path.stat().st_size < file.tell():
                file.seek(0)
            time.sleep(0.2)
