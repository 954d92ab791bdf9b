"""Finding an application by its import path."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fairlead.cli.errors import ImportPathError
from fairlead.serve import Application
from fairlead.serve.code import is_missing, what_failed


def load_application(import_path: str, app_dir: str, arguments: Mapping[str, Any] | None = None) -> Application[Any]:
    """The application at "package.module:name", looked for in ``app_dir`` first.

    The name may be a builder: a function that takes nothing, or the ``arguments``, as a dict or as the pydantic model
    that its parameter is annotated with, and returns an application. Raises ImportPathError, also for what the module
    or the builder itself raises.
    """
    target = load_name(import_path, app_dir)
    if inspect.isroutine(target):
        target = _built(import_path, target, dict(arguments or {}))
    elif arguments:
        raise ImportPathError(f"'{import_path}' takes no arguments: it is no function; there are {sorted(arguments)}")
    if not isinstance(target, Application):
        raise ImportPathError(
            f"'{import_path}' is of type {type(target).__name__}, not an application: bind a deployment with .bind()"
        )
    return target


def load_name(import_path: str, app_dir: str) -> Any:
    """Whatever is at "package.module:name", looked for in ``app_dir`` first. Raises ImportPathError."""
    module_name, separator, attribute = import_path.partition(":")
    if not separator or not module_name or not attribute:
        raise ImportPathError(f"'{import_path}' is not an import path: write package.module:application")
    module = _module(module_name, app_dir)
    target: Any = module
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise ImportPathError(f"module '{module_name}' has no '{attribute}'.{_hint(attribute, module)}")
        target = getattr(target, part)
    return target


def look_in(app_dir: str) -> str:
    """Has modules be looked for in a directory first; its whole path."""
    directory = str(Path(app_dir).resolve())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    return directory


def _module(name: str, app_dir: str) -> Any:
    directory = look_in(app_dir)
    try:
        return importlib.import_module(name)
    except Exception as error:
        if is_missing(name, error):
            raise ImportPathError(f"there is no module '{name}' in {directory} or where Python looks") from error
        raise ImportPathError(f"importing '{name}' failed: {what_failed(error)}") from error


def _built(import_path: str, builder: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """What a builder returns."""
    parameters = list(inspect.signature(builder).parameters.values())
    if not parameters and arguments:
        raise ImportPathError(f"the builder '{import_path}' takes no arguments; there are {sorted(arguments)}")
    if not arguments and (not parameters or parameters[0].default is not inspect.Parameter.empty):
        given: tuple[Any, ...] = ()
    else:
        given = (_argument(import_path, builder, parameters[0].name, arguments),)
    try:
        return builder(*given)
    except Exception as error:
        raise ImportPathError(f"the builder '{import_path}' failed: {what_failed(error)}") from error


def _argument(import_path: str, builder: Callable[..., Any], parameter: str, arguments: dict[str, Any]) -> Any:
    """The arguments as a dict, or as the model that the builder asks for."""
    try:
        annotation = typing.get_type_hints(builder).get(parameter)
    except Exception:
        return arguments  # a hint that cannot be resolved asks for nothing
    validate = getattr(annotation, "model_validate", None)
    if validate is None:
        return arguments
    try:
        return validate(arguments)
    except ValueError as error:
        problems: list[Any] = getattr(error, "errors", list)()
        text = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in problems)
        raise ImportPathError(f"arguments of the builder '{import_path}': {text or error}") from error


def _hint(name: str, module: Any) -> str:
    applications = [each for each, value in vars(module).items() if isinstance(value, Application)]
    close = difflib.get_close_matches(name, applications, 1) or applications[:1]
    return f" Did you mean '{close[0]}'?" if close else ""
