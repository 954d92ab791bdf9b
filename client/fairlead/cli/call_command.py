"""``fairlead call``: a call from the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from fairlead.cli.finding import Address, choose
from fairlead.cli.names import application_named, check_deployment
from fairlead.cli.output import print_json
from fairlead.serve import api
from fairlead.serve.app_handles import callable_names, tells_names
from fairlead.wire.errors import CardinalityError, FairleadError

_END = object()
_SERIALIZATION = "orjson"
"""Every listener takes it, and so does every language."""


def call(
    target: Annotated[
        str, typer.Argument(help="application, application/deployment or application/deployment.method.")
    ],
    json: Annotated[
        str | None,
        typer.Option(
            "--json", "-j", help="The arguments: an object by name, a list by position, or one value; @file; -: stdin."
        ),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", "-s", help="The method is a generator: print each item, a line each.")
    ] = False,
    timeout: Annotated[float | None, typer.Option(help="Seconds that the call may take.", min=0)] = None,
    model_id: Annotated[str, typer.Option(help="The multiplexed model.")] = "",
    address: Address = None,
) -> None:
    """Call a method, and print what it returns as JSON."""
    application, deployment, method = split(target)
    args, kwargs = arguments(json)
    choose(address)
    handle = _handle(application, deployment).options(
        method_name=method,
        stream=stream,
        timeout_s=timeout,
        multiplexed_model_id=model_id,
        request_serialization=_SERIALIZATION,
        response_serialization=_SERIALIZATION,
    )
    response: Any = handle.remote(*args, **kwargs)
    if not stream:
        print_json(_fetched(target, response.result))
        return
    for item in iter(lambda: _fetched(target, lambda: next(response, _END)), _END):
        typer.echo(orjson.dumps(item).decode())
        sys.stdout.flush()


def _fetched(target: str, fetch: Callable[[], Any]) -> Any:
    """A result. What the method itself has raised, of whatever type, becomes a FairleadError that names it."""
    try:
        return fetch()
    except CardinalityError as error:
        raise FairleadError(f"{error} Here stream=True is --stream.") from error
    except FairleadError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise FairleadError(f"{target} raised {type(error).__name__}{': ' if text else ''}{text}") from error


def _handle(application: str, deployment: str) -> Any:
    """Where there is a controller to ask, names are checked before the call."""
    instance = api.existing_instance()
    if tells_names(instance):
        found = application_named(application, instance.status())
        if deployment and deployment not in callable_names(found):
            check_deployment(deployment, found)
    if not deployment:
        return api.get_app_handle(application)
    return api.get_deployment_handle(deployment, application, _check_exists=False)


def split(target: str) -> tuple[str, str, str]:
    """Application, deployment (empty: the ingress) and method. Raises FairleadError."""
    application, _, rest = target.partition("/")
    deployment, _, method = rest.rpartition(".") if "." in rest else (rest, "", "")
    if not application or (rest and not deployment) or rest.endswith("."):
        raise FairleadError(f"'{target}' is not application/deployment.method")
    return application, deployment, method or "__call__"


def _file(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise FairleadError(f"--json: {name} cannot be read: {error.strerror}") from error


def arguments(text: str | None) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named arguments. Raises FairleadError for what is not JSON or cannot be read."""
    if text is None:
        return [], {}
    try:
        if text == "-":
            value = orjson.loads(sys.stdin.read())
        else:
            value = orjson.loads(_file(text[1:]) if text.startswith("@") else text)
    except orjson.JSONDecodeError as error:
        raise FairleadError(f"--json is not JSON: {error}") from error
    if isinstance(value, dict):
        return [], value
    return (value if isinstance(value, list) else [value]), {}
