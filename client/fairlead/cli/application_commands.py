"""``fairlead delete``, ``scale``, ``status``: what is deployed to an instance that runs."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from fairlead.cli.common_options import Json, NoWait
from fairlead.cli.finding import Address, find
from fairlead.cli.names import application_named, check_deployment
from fairlead.cli.output import print_json, said_if_long, say
from fairlead.cli.status_text import is_well, print_status, status_value, time_of_day
from fairlead.serve.progress import Progress
from fairlead.v1 import control_pb2
from fairlead.wire.errors import FairleadError

NOT_WELL = 3
"""The exit status of ``fairlead status`` when an application does not serve as it shall."""


def delete(
    names: Annotated[list[str], typer.Argument(help="Applications.")],
    address: Address = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait until they are gone.", min=0)] = 60.0,
) -> None:
    """Drain and delete applications."""
    instance = find(address)
    status = instance.status()
    for name in names:
        application_named(name, status)
    for name in names:
        with said_if_long(f"{name} drains: waiting for the calls that still run"):
            instance.delete(name, timeout_s=timeout)
        say(f"deleted {name}")


def scale(
    deployment: Annotated[str, typer.Argument(help="application/deployment.")],
    replicas: Annotated[int, typer.Argument(help="How many replicas.", min=1)],
    no_wait: NoWait = False,
    address: Address = None,
) -> None:
    """Change how many replicas a deployment has. The next deploy of its application says it anew."""
    instance = find(address)
    application, name = split_target(deployment, instance.status())
    generation = instance.scale(application, name, replicas)
    if not no_wait:
        with Progress() as progress:
            instance.wait_until_running(application, generation, progress.show)
    if no_wait:
        say(f"scaling {application}/{name}")
        return
    found = next(one for one in instance.status().applications if one.name == application)
    part = f" at a target capacity of {found.target_capacity:g} %" if found.HasField("target_capacity") else ""
    say(f"{application}/{name} has {replicas} replica(s){part}")


def split_target(target: str, status: control_pb2.InstanceStatus) -> tuple[str, str]:
    """Application and deployment of ``application/deployment``, both of which there are. Raises FairleadError."""
    application, separator, name = target.partition("/")
    if not separator or not application or not name:
        raise FairleadError(f"'{target}' is not application/deployment")
    check_deployment(name, application_named(application, status))
    return application, name


def status(
    name: Annotated[str | None, typer.Argument(help="An application; without it all.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on, with each change, until Ctrl-C.")] = False,
    json: Json = False,
    address: Address = None,
) -> None:
    """Print the state of an instance. Exit status 0: all applications run; 3: some do not; 1: there is no instance."""
    instance = find(address)
    found = _only(instance.status(), name)
    if not watch:
        _print(found, json)
        raise typer.Exit(0 if is_well(found) else NOT_WELL)
    before: Any = None
    for one in instance.statuses():
        shown = _only(one, name)
        if shown != before:
            before = shown
            if not json:
                typer.echo(f"— {time_of_day()}")
            _print(shown, json)
            sys.stdout.flush()


def _print(found: control_pb2.InstanceStatus, json: bool) -> None:
    if json:
        print_json(status_value(found))
    else:
        print_status(found, Console(highlight=False))


def _only(found: control_pb2.InstanceStatus, name: str | None) -> control_pb2.InstanceStatus:
    if name is None:
        return found
    application = application_named(name, found)
    return control_pb2.InstanceStatus(applications=[application], gateways=found.gateways, controller=found.controller)
