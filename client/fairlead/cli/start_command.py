"""``fairlead start``: the standing instance begins, or its controller comes back."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fairlead.cli.applications import doors_of
from fairlead.cli.config_file import load_config
from fairlead.cli.door_options import Insecure, TlsCert, TlsClientCa, TlsKey, tls_settings
from fairlead.cli.output import print_json, say
from fairlead.cli.status_text import where_lines
from fairlead.serve import standing
from fairlead.serve.config import HTTPOptions, gRPCOptions
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
