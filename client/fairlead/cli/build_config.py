"""``fairlead build``: a configuration file to begin with, from applications in code."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
import yaml

from fairlead.cli.imports import load_application
from fairlead.cli.output import say
from fairlead.serve.deployment import Deployment
from fairlead.serve.graph import deployments_of
from fairlead.serve.settings import DeploymentConfig

_DEFAULTS = DeploymentConfig()
_HEAD = "# Made by `fairlead build`. `fairlead deploy` and `fairlead run` take it.\n"


def build_config(import_paths: Sequence[str], app_dir: str, output: Path | None) -> None:
    """Prints or writes a file with the applications at these import paths. Raises ImportPathError, OSError."""
    text = _HEAD + yaml.safe_dump({"applications": _applications(import_paths, app_dir)}, sort_keys=False)
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text)
        say(f"wrote {output}")


def _applications(import_paths: Sequence[str], app_dir: str) -> list[dict[str, Any]]:
    several = len(import_paths) > 1
    found = []
    for number, path in enumerate(import_paths, 1):
        target = load_application(path, app_dir)
        found.append(
            {
                "name": f"app{number}" if several else "default",
                "route_prefix": f"/app{number}" if several else "/",
                "import_path": path,
                "deployments": [_settings(name, one) for name, one in deployments_of(target)],
            }
        )
    return found


def _settings(name: str, deployment: Deployment[Any]) -> dict[str, Any]:
    """The settings that are not the default, and those that are changed most often."""
    config = deployment.config
    written: dict[str, Any] = {"name": name}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name == "num_replicas" and config.autoscaling_config is not None:
            continue
        if field.name != "num_replicas" and value == getattr(_DEFAULTS, field.name):
            continue
        written[field.name] = _plain(value)
    return written


def _plain(value: Any) -> Any:
    """As YAML can carry it: what stands for settings by name as a mapping, without what is the default there."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        given = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: _plain(one) for name, one in given.items() if one is not None}
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if callable(value):
        return f"{value.__module__}:{value.__qualname__}"
    return str(value) if isinstance(value, str) else value
