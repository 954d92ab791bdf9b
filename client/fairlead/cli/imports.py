"""Finding an application by its import path."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

from fairlead.serve import Application


class ImportPathError(Exception):
    """An import path leads to no application. The message says where it ended, and what is there."""


def load_application(import_path: str, app_dir: str, arguments: dict[str, str] | None = None) -> Application[Any]:
    """The application at "package.module:name", looked for in ``app_dir`` first.

    The name may be a builder: a function that takes a dict of ``arguments``, or nothing, and returns an application.
    Raises ImportPathError.
    """
    module_name, separator, attribute = import_path.partition(":")
    if not separator or not module_name or not attribute:
        raise ImportPathError(f"'{import_path}' is not an import path: write package.module:application")
    directory = str(Path(app_dir).resolve())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise
        raise ImportPathError(f"there is no module '{module_name}' in {directory} or where Python looks") from error
    target: Any = module
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise ImportPathError(f"module '{module_name}' has no '{attribute}'.{_hint(attribute, module)}")
        target = getattr(target, part)
    if inspect.isroutine(target):
        target = target(arguments) if arguments else target()
    if not isinstance(target, Application):
        raise ImportPathError(
            f"'{import_path}' is of type {type(target).__name__}, not an application: bind a deployment with .bind()"
        )
    return target


def _hint(name: str, module: Any) -> str:
    applications = [each for each, value in vars(module).items() if isinstance(value, Application)]
    close = difflib.get_close_matches(name, applications, 1) or applications[:1]
    return f" Did you mean '{close[0]}'?" if close else ""
