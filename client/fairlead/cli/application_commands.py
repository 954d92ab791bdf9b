"""``fairlead deploy``, ``config``, ``delete``, ``scale``, ``status``: what is deployed to an instance that runs."""

from __future__ import annotations

import json as json_module
import sys
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from fairlead.cli.applications import specs_of
from fairlead.cli.config_file import ConfigFileError, load_config
from fairlead.cli.finding import Address, find
from fairlead.cli.status_text import is_well, print_json, print_status, say, status_value, time_of_day
from fairlead.serve.deploy_schema import FOR_THE_START, ServeDeploySchema, suggestion
from fairlead.serve.instance import Instance
from fairlead.serve.progress import Progress
from fairlead.serve.status import target_capacity
from fairlead.v1 import control_pb2
from fairlead.wire.errors import FairleadError

NOT_WELL = 3
"""The exit status of ``fairlead status`` when an application does not serve as it shall."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait until it serves.")]


def deploy(
    file: Annotated[str, typer.Argument(help="A configuration file (YAML).")],
    app_dir: Annotated[str, typer.Option("--app-dir", "-d", help="Where to look for modules first.")] = ".",
    no_wait: NoWait = False,
    address: Address = None,
) -> None:
    """Make an instance run what a file says: deploy its applications, and delete those of an earlier file.

    Applications that programs have deployed stay. Nothing is changed if the file is wrong or an import fails. What the
    file says of ports, gateways and traces is for `fairlead start --config` and `fairlead run`.
    """
    config = load_config(file)
    instance = find(address)
    specs = specs_of(config, file, app_dir, instance.address)
    tell_of_no_effect(config, file)
    if for_the_start := [name for name in FOR_THE_START if name in config.model_fields_set]:
        say(
            f"{file}: {', '.join(for_the_start)}: for the start of an instance; this one keeps what it was started with"
        )
    deploy_all(instance, specs, file, wait=not no_wait)
    say(f"{'deploying' if no_wait else 'deployed'} {', '.join(spec.name for spec in specs) or 'nothing'}")


def tell_of_no_effect(config: ServeDeploySchema, file: str) -> None:
    """Says what of a file is taken and changes nothing."""
    if config.without_effect:
        say(f"{file}: without effect outside of Ray: {', '.join(config.without_effect)}")


def deploy_all(instance: Instance, specs: list[control_pb2.ApplicationSpec], file: str, *, wait: bool) -> None:
    """Deploys the applications of a file in the place of those of an earlier one."""
    declared = {one.application for one in instance.configs() if one.config}
    _check_routes(instance.status(), specs, declared, file)
    gone = sorted(declared - {spec.name for spec in specs})
    generations = instance.deploy_all(specs, gone) if specs else []
    for name in gone:
        instance.delete(name)
        say(f"deleted {name}: {file} does not have it any more")
    if wait:
        for spec, generation in zip(specs, generations, strict=True):
            with Progress() as progress:
                instance.wait_until_running(spec.name, generation, progress.show)


def _check_routes(
    status: control_pb2.InstanceStatus, specs: list[control_pb2.ApplicationSpec], declared: set[str], file: str
) -> None:
    """Before anything is changed: two applications on one route."""
    ours = {spec.name for spec in specs} | declared
    for other in status.applications:
        for spec in specs:
            if other.name not in ours and other.HasField("route_prefix") and other.route_prefix == spec.route_prefix:
                raise ConfigFileError(
                    f"{file}: application '{spec.name}': the route prefix {spec.route_prefix} is that of application "
                    f"'{other.name}', which a program has deployed; choose another, or delete that one"
                )


def config(json: Json = False, address: Address = None) -> None:
    """Print the configuration of the applications that were deployed from a file."""
    instance = find(address)
    found: dict[str, Any] = {
        "applications": [json_module.loads(one.config) for one in instance.configs() if one.config]
    }
    if (capacity := target_capacity(instance.status())) is not None:
        found = {"target_capacity": capacity, **found}
    if json:
        print_json(found)
    else:
        typer.echo(yaml.safe_dump(found, sort_keys=False), nl=False)


def delete(
    names: Annotated[list[str], typer.Argument(help="Applications.")],
    address: Address = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait until they are gone.", min=0)] = 60.0,
) -> None:
    """Drain and delete applications."""
    instance = find(address)
    known = [one.name for one in instance.status().applications]
    for name in names:
        if name not in known:
            raise FairleadError(f"there is no application '{name}'; {suggestion(name, known)}")
    for name in names:
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
    known = {one.name: [deployment.name for deployment in one.deployments] for one in status.applications}
    if application not in known:
        raise FairleadError(f"there is no application '{application}'; {suggestion(application, known)}")
    if name not in known[application]:
        raise FairleadError(
            f"application '{application}' has no deployment '{name}'; {suggestion(name, known[application])}"
        )
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
    applications = [one for one in found.applications if one.name == name]
    if not applications:
        known = [one.name for one in found.applications]
        raise FairleadError(f"there is no application '{name}'; {suggestion(name, known)}")
    return control_pb2.InstanceStatus(applications=applications, gateways=found.gateways, controller=found.controller)
