"""``fairlead run``: an application, or those of a file, until Ctrl-C."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from fairlead.cli.applications import specs_of, with_options
from fairlead.cli.config_file import is_config_file, load_config
from fairlead.cli.deploy_command import tell_of_no_effect
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
from fairlead.cli.errors import ImportPathError
from fairlead.cli.imports import load_application
from fairlead.cli.redeploy import Redeployment
from fairlead.cli.reload import reloading
from fairlead.cli.status_text import grpc_target, http_url
from fairlead.serve import api
from fairlead.serve.deploy_schema import ServeDeploySchema
from fairlead.serve.deploying import check_names
from fairlead.serve.termination import terminable
from fairlead.v1 import control_pb2


def run(
    import_path: Annotated[
        str, typer.Argument(help="The application: package.module:name. Or a configuration file (YAML).")
    ],
    arguments: Annotated[list[str] | None, typer.Argument(help="key=value pairs for an application builder.")] = None,
    name: Annotated[str, typer.Option(help="The application's name.")] = "default",
    route_prefix: Annotated[str, typer.Option(help="Where to mount it over HTTP.")] = "/",
    app_dir: Annotated[str, typer.Option("--app-dir", "-d", help="Where to look for the module first.")] = ".",
    http_host: HttpHost = None,
    http_port: HttpPort = None,
    grpc_host: GrpcHost = None,
    grpc_port: GrpcPort = None,
    gateways: Gateways = None,
    insecure: Insecure = False,
    reload: Annotated[
        bool, typer.Option("--reload", "-r", help="Restart the deployments whose Python files change.")
    ] = False,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
) -> None:
    """Serve an application until Ctrl-C or SIGTERM.

    If FAIRLEAD_TOKEN is set, callers of both ports have to present it. Options of ports, TLS and gateways that are
    given here win over those of a configuration file.
    """
    check_names(name, route_prefix)
    for_builder = dict(_pair(argument) for argument in arguments or [])
    tls = tls_settings(tls_cert, tls_key, tls_client_ca)
    http, grpc = given(host=http_host, port=http_port) | tls, given(host=grpc_host, port=grpc_port) | tls
    if is_config_file(import_path):
        if reload:
            raise ImportPathError("--reload is for an import path; of a configuration file nothing is watched")
        config = with_options(load_config(import_path), import_path, http=http, grpc=grpc, gateways=gateways)
        run_file(config, import_path, app_dir, insecure=insecure)
        return
    with terminable(), reloading(app_dir if reload else None) as watch:
        target = load_application(import_path, app_dir, for_builder)
        api.start(
            http_options=http,
            grpc_options=grpc,
            insecure=insecure,
            gateways=gateways or 1,
        )
        api.run(target, name=name, route_prefix=route_prefix)
        if watch is not None:
            again = Redeployment(
                import_path=import_path, app_dir=app_dir, arguments=for_builder, name=name, route_prefix=route_prefix
            )
            watch.follow(again, api.controller_address())
        _say_where(api.instance_status(), name)
        api.wait()


def _pair(argument: str) -> tuple[str, str]:
    key, separator, value = argument.partition("=")
    if not separator or not key:
        raise ImportPathError(f"'{argument}' is not a key=value pair")
    return key, value


def run_file(config: ServeDeploySchema, path: str, app_dir: str, *, insecure: bool) -> None:
    """Serves the applications of a configuration file until Ctrl-C or SIGTERM."""
    with terminable():
        # Before anything is started; what the instance was started with may add to it afterwards.
        specs_of(config, path, app_dir, "")
        tell_of_no_effect(config, path)
        api.start(
            config.proxy_location,
            config.http_options,
            config.grpc_options,
            config.logging_config,
            config.tracing_config,
            insecure=insecure,
            gateways=config.gateways,
        )
        specs = specs_of(config, path, app_dir, api.controller_address())
        api.deploy_specs(specs)
        found = api.instance_status()
        for spec in specs:
            _say_where(found, spec.name)
        api.wait()


def _say_where(status: control_pb2.InstanceStatus, name: str) -> None:
    """Prints where the application can be called."""
    console = Console(stderr=True, highlight=False)
    ingress = next((each.ingress_deployment for each in status.applications if each.name == name), "")
    console.print(f"[bold]{name}[/bold] is running: ingress deployment {ingress}. Ctrl-C ends it.")
    for gateway in status.gateways[:1]:
        if url := http_url(gateway):
            console.print(f"  HTTP  {url}/      (routes: /-/routes, health: /-/healthz)")
        if target := grpc_target(gateway):
            console.print(f"  gRPC  {target}  (fairlead.v1.ServingService, reflection is on)")
