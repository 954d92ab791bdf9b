"""Reading a configuration file, and saying in which line it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fairlead.cli.errors import ConfigFileError
from fairlead.serve.deploy_schema import PROBLEM, ServeApplicationSchema, ServeDeploySchema
from fairlead.serve.validation import suggestion

SUFFIXES = (".yaml", ".yml", ".json")
"""Of names that are files rather than import paths."""


def is_config_file(name: str) -> bool:
    """Whether a name is that of a configuration file, rather than an import path."""
    return name.endswith(SUFFIXES)


def load_config(path: str) -> ServeDeploySchema:
    """The configuration in a file. Raises ConfigFileError."""
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigFileError(f"{path} cannot be read: {reason}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
        if not isinstance(document, dict) or node is None:
            raise ConfigFileError(f"{path}:1: a mapping with 'applications' is expected")
        _refuse_doubles(path, node)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise ConfigFileError(f"{path}{line}: it is not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigFileError(f"{path}: it is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigFileError(f"{path}: it contains itself, or is nested too deeply") from error
    try:
        return ServeDeploySchema.model_validate(document)
    except ValidationError as error:
        raise ConfigFileError(_first_problem(path, node, error)) from error


def located(path: str, *place: str | int) -> str:
    """A place in a file that was loaded, as "file:line"."""
    node = yaml.compose(Path(path).read_text(), Loader=yaml.SafeLoader)
    assert node is not None
    return f"{path}:{_line(node, place)}"


def _first_problem(path: str, node: yaml.Node, error: ValidationError) -> str:
    found = error.errors()
    # A name that is misspelt is missing, too: the line of the one that is there helps more.
    first = min(found, key=lambda one: (one["type"] == "missing", _line(node, _place(one))))
    place = _place(first)
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{path}:{_line(node, place)}: {where + ': ' if where else ''}{_text(first)}{more}"


def _place(error: Any) -> tuple[str | int, ...]:
    place: tuple[str | int, ...] = error["loc"]
    return (*place, *error["ctx"]["place"]) if error["type"] == PROBLEM else place


def _text(error: Any) -> str:
    if error["type"] == PROBLEM:
        return str(error["ctx"]["problem"])
    name = str(error["loc"][-1]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        model = ServeApplicationSchema if len(error["loc"]) > 1 else ServeDeploySchema
        return f"unknown key '{name}'; {suggestion(name, model.model_fields)}"
    if error["type"] == "missing":
        return f"'{name}' is missing"
    message: str = error["msg"]
    return f"{message[0].lower()}{message[1:]}, not {error['input']!r}"


def _line(node: yaml.Node, place: tuple[str | int, ...]) -> int:
    """The line of a place in the document, or of what is around it, where it is not there."""
    line = node.start_mark.line + 1
    for part in place:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == part), None)
            if pair is None:
                return int(line)
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return int(line)


def _refuse_doubles(path: str, node: yaml.Node) -> None:
    """YAML itself takes the last of several keys that are the same."""
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            _refuse_doubles(path, child)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise ConfigFileError(f"{path}:{key.start_mark.line + 1}: '{key.value}' is there twice")
            seen.add(key.value)
            _refuse_doubles(path, value)
