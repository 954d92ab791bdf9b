"""``fairlead deploy``, ``config``: what is deployed from files."""

from __future__ import annotations

import json as json_module
from typing import Annotated, Any

import typer
import yaml

from fairlead.cli.applications import specs_of
from fairlead.cli.common_options import Json, NoWait
from fairlead.cli.config_file import load_config, located
from fairlead.cli.errors import ConfigFileError
from fairlead.cli.finding import Address, find
from fairlead.cli.output import print_json, say
from fairlead.serve.deploy_schema import FOR_THE_START, ServeDeploySchema
from fairlead.serve.instance import Instance
from fairlead.serve.progress import Progress
from fairlead.serve.status import target_capacity
from fairlead.v1 import control_pb2


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
        for number, spec in enumerate(specs):
            if other.name not in ours and other.HasField("route_prefix") and other.route_prefix == spec.route_prefix:
                where = located(file, "applications", number, "route_prefix")
                raise ConfigFileError(
                    f"{where}: application '{spec.name}': the route prefix {spec.route_prefix} is that of application "
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
