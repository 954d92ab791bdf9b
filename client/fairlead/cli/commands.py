"""The commands of ``fairlead``."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, Any, cast

import typer
from rich.console import Console

import fairlead
from fairlead.cli.application_commands import config, delete, deploy, scale, status, tell_of_no_effect
from fairlead.cli.applications import specs_of
from fairlead.cli.build_proto import build
from fairlead.cli.call_command import call
from fairlead.cli.config_file import ConfigFileError, is_config_file, load_config
from fairlead.cli.door_options import Insecure, TlsCert, TlsClientCa, TlsKey, tls_settings
from fairlead.cli.imports import ImportPathError, load_application
from fairlead.cli.redeploy import Redeployment
from fairlead.cli.reload import reloading
from fairlead.cli.standing_commands import logs, shutdown, start
from fairlead.cli.status_text import say
from fairlead.cli.traffic import traffic
from fairlead.serve import api
from fairlead.serve.config import HTTPOptions, gRPCOptions
from fairlead.serve.deploying import check_names
from fairlead.serve.termination import terminable
from fairlead.v1 import control_pb2
from fairlead.wire.credentials import TLS_SCHEME
from fairlead.wire.errors import FairleadError

_UsageError: type[Exception] = cast("type[Exception]", typer.BadParameter.__mro__[1])
"""What a wrong command line raises; typer itself exports no more than some of its kinds."""

app = typer.Typer(
    name="fairlead",
    help="Serve Python classes over gRPC, Python handles and HTTP/JSON.",
    epilog="Example: [bold]fairlead run examples.digits.app:app[/bold], then in another terminal "
    "[bold]fairlead call default/Digits.classify --json @examples/digits/seven.json[/bold]",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback()
def program() -> None:
    """Serve Python classes over gRPC, Python handles and HTTP/JSON."""


@app.command(epilog="Example: [bold]fairlead version[/bold]")
def version() -> None:
    """Print the version."""
    typer.echo(fairlead.__version__)


@app.command(
    epilog="Example: [bold]fairlead run examples.digits.app:app --http-port 8000 --grpc-port 9000[/bold]",
)
def run(
    import_path: Annotated[
        str, typer.Argument(help="The application: package.module:name. Or a configuration file (YAML).")
    ],
    arguments: Annotated[list[str] | None, typer.Argument(help="key=value pairs for an application builder.")] = None,
    name: Annotated[str, typer.Option(help="The application's name.")] = "default",
    route_prefix: Annotated[str, typer.Option(help="Where to mount it over HTTP.")] = "/",
    app_dir: Annotated[str, typer.Option("--app-dir", "-d", help="Where to look for the module first.")] = ".",
    http_host: Annotated[str, typer.Option(help="The HTTP address.")] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(help="The HTTP port; 0: any.", min=0, max=65535)] = 8000,
    grpc_host: Annotated[str, typer.Option(help="The gRPC address.")] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(help="The gRPC port; 0: any.", min=0, max=65535)] = 9000,
    gateways: Annotated[int, typer.Option(help="How many gateway workers share the ports.", min=1)] = 1,
    insecure: Insecure = False,
    reload: Annotated[
        bool, typer.Option("--reload", "-r", help="Restart the deployments whose Python files change.")
    ] = False,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_client_ca: TlsClientCa = None,
) -> None:
    """Serve an application until Ctrl-C or SIGTERM.

    If FAIRLEAD_TOKEN is set, callers of both ports have to present it. Of a configuration file the options of ports,
    TLS and gateways count, not those given here.
    """
    check_names(name, route_prefix)
    given = dict(_pair(argument) for argument in arguments or [])
    tls = tls_settings(tls_cert, tls_key, tls_client_ca)
    if is_config_file(import_path):
        if reload:
            raise ImportPathError("--reload is for an import path; of a configuration file nothing is watched")
        run_file(import_path, app_dir, insecure=insecure)
        return
    with terminable(), reloading(app_dir if reload else None) as watch:
        target = load_application(import_path, app_dir, given)
        api.start(
            http_options=HTTPOptions(host=http_host, port=http_port, **tls),
            grpc_options=gRPCOptions(host=grpc_host, port=grpc_port, **tls),
            insecure=insecure,
            gateways=gateways,
        )
        api.run(target, name=name, route_prefix=route_prefix)
        if watch is not None:
            again = Redeployment(
                import_path=import_path, app_dir=app_dir, arguments=given, name=name, route_prefix=route_prefix
            )
            watch.follow(again, api.controller_address())
        _say_where(api.instance_status(), name, encrypted=tls_cert is not None)
        api.wait()


for _command, _example in (
    (start, "start --http-port 8000 --grpc-port 9000 --gateways 2"),
    (deploy, "deploy examples/digits/config.yaml"),
    (status, "status digits"),
    (call, "call digits/Digits.classify --json @examples/digits/seven.json"),
    (scale, "scale digits/Model 2"),
    (config, "config --json"),
    (logs, "logs controller --lines 20"),
    (traffic, "traffic digits Digits=100"),
    (delete, "delete digits"),
    (shutdown, "shutdown --yes"),
):
    app.command(epilog=f"Example: [bold]fairlead {_example}[/bold]")(_command)
app.command(epilog="Example: [bold]fairlead build --proto examples.digits.app:app[/bold]")(build)


def _pair(argument: str) -> tuple[str, str]:
    key, separator, value = argument.partition("=")
    if not separator or not key:
        raise ImportPathError(f"'{argument}' is not a key=value pair")
    return key, value


def run_file(path: str, app_dir: str, *, insecure: bool) -> None:
    """Serves the applications of a configuration file until Ctrl-C or SIGTERM."""
    config = load_config(path)
    with terminable():
        # Before anything is started; what the instance was started with may add to it afterwards.
        specs_of(config, path, app_dir, "")
        tell_of_no_effect(config, path)
        api.start(
            config.proxy_location,
            HTTPOptions(**config.http_options),
            gRPCOptions(**config.grpc_options),
            config.logging_config,
            config.tracing_config,
            insecure=insecure,
            gateways=config.gateways,
        )
        specs = specs_of(config, path, app_dir, api.controller_address())
        api.deploy_specs(specs)
        found = api.instance_status()
        for spec in specs:
            _say_where(found, spec.name, encrypted="ssl_certfile" in config.http_options)
        api.wait()


def _say_where(status: control_pb2.InstanceStatus, name: str, *, encrypted: bool) -> None:
    """Prints where the application can be called."""
    console = Console(stderr=True, highlight=False)
    ingress = next((each.ingress_deployment for each in status.applications if each.name == name), "")
    console.print(f"[bold]{name}[/bold] is running: ingress deployment {ingress}. Ctrl-C ends it.")
    for gateway in status.gateways[:1]:
        if gateway.http_address:
            url = f"{'https' if encrypted else 'http'}://{gateway.http_address}/"
            console.print(f"  HTTP  {url}      (routes: /-/routes, health: /-/healthz)")
        if gateway.grpc_address:
            address = f"{TLS_SCHEME if encrypted else ''}{gateway.grpc_address}"
            console.print(f"  gRPC  {address}  (fairlead.v1.ServingService, reflection is on)")


def run_program() -> None:
    """Runs the command line. What a user can mend is one line and exit status 1; a defect keeps its traceback.

    A wrong command line has exit status 2.
    """
    try:
        sys.exit(app(standalone_mode=False))
    except _UsageError as error:
        sys.exit(_say_usage(error))
    except typer.Abort:
        sys.exit("fairlead: given up; nothing was changed")
    except KeyboardInterrupt:
        sys.exit(130)
    except (ConfigFileError, ImportPathError, FairleadError, ValueError, TypeError, RuntimeError, OSError) as error:
        ours = (ConfigFileError, ImportPathError, FairleadError, RuntimeError, OSError)
        if isinstance(error, ours) or _is_ours(error):
            sys.exit(f"fairlead: {error}")
        raise


def _say_usage(error: Any) -> int:
    """Tells what is wrong with a command line, in one line; of `fairlead` alone, what there is. The exit status."""
    message = " ".join(error.format_message().split())
    if error.ctx is None or not message or "Usage:" in message:
        error.show()
    else:
        say(f"{message.rstrip('.')}; `{error.ctx.command_path} --help` says more")
    return int(error.exit_code)


def _is_ours(error: BaseException) -> bool:
    """Whether an error was raised by the library's own validation, rather than by the module that was imported."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and "/fairlead/" in frames[-1].filename
