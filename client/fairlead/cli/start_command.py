"""``fairlead start``: the standing instance begins, or its controller comes back."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fairlead.cli.applications import doors_of, with_options
from fairlead.cli.config_file import load_config
from fairlead.cli.door_options import (
    Gateways,
    GrpcHost,
    GrpcPort,
    HttpHost,
    HttpPort,
    Insecure,
    TlsCert,
    TlsClientCa,
    TlsKey,
    given,
    tls_settings,
)
from fairlead.cli.output import print_json, say
from fairlead.cli.status_text import status_value, where_lines
from fairlead.serve import standing
from fairlead.serve.config import HTTPOptions, gRPCOptions
from fairlead.serve.doors import Doors
from fairlead.serve.instance import Instance
from fairlead.serve.owned_instance import answers
from fairlead.wire.errors import FairleadError


def start(
    config: Annotated[
        str | None, typer.Option("--config", "-c", help="Take http_options, … of this file. Options given here win.")
    ] = None,
    http_host: HttpHost = None,
    http_port: HttpPort = None,
    grpc_host: GrpcHost = None,
    grpc_port: GrpcPort = None,
    gateways: Gateways = None,
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
    tls = tls_settings(tls_cert, tls_key, tls_client_ca)
    http, grpc = given(host=http_host, port=http_port) | tls, given(host=grpc_host, port=grpc_port) | tls
    doors = _doors(config, http, grpc, gateways, insecure)
    if foreground:
        standing.become(doors, patience_s=controller_patience)
    standing.start(doors, patience_s=controller_patience)
    status = Instance(f"unix:{standing.directory() / 'controller.sock'}").status()
    if json:
        print_json({"gateways": status_value(status)["gateways"]})
        return
    say(f"the instance runs: controller process {status.controller.pid}, {len(status.gateways)} gateway worker(s)")
    for line in where_lines(status):
        say(line)


def _doors(
    config: str | None, http: dict[str, Any], grpc: dict[str, Any], gateways: int | None, insecure: bool
) -> Doors | None:
    """None: nothing was given."""
    if config is not None:
        found = with_options(load_config(config), config, http=http, grpc=grpc, gateways=gateways)
        return doors_of(found, insecure=insecure)
    if not (http or grpc or gateways or insecure):
        return None
    return Doors.of(None, HTTPOptions(**http), gRPCOptions(**grpc), insecure, gateways or 1)
