"""How a user's code reaches replicas: by import path where they can import it, else by value."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import cloudpickle

from fairlead.serve.deployment import Deployment
from fairlead.v1 import control_pb2


class SettingError(ValueError):
    """A deployment's setting names code that cannot be used; says which, and why."""

    def __init__(self, text: str, *place: str) -> None:
        super().__init__(text)
        self.place = place
        """Where the setting stands: the keys that lead to it from the deployment's settings."""
        self.deployment = ""
        """The deployment's name; empty: it is not known."""

    def __str__(self) -> str:
        return f"{f'deployment {self.deployment!r}: ' if self.deployment else ''}{super().__str__()}"


def imported(path: str, *place: str) -> Any:
    """What is at "package.module:name", which the setting at this place names. Raises SettingError."""
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        if is_missing(module_name, error):
            raise SettingError(f"{place[-1]}: there is no module '{module_name}'", *place) from error
        raise SettingError(f"{place[-1]}: importing '{module_name}' failed: {what_failed(error)}", *place) from error
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise SettingError(f"{place[-1]}: module '{module_name}' has no '{attribute}'", *place)
        found = getattr(found, part)
    return found


def is_missing(module_name: str, error: Exception) -> bool:
    """Whether importing a module has failed because there is none of that name, rather than in what it imports."""
    return isinstance(error, ModuleNotFoundError) and (
        error.name is not None and f"{module_name}.".startswith(f"{error.name}.")
    )


def what_failed(error: BaseException) -> str:
    """An exception of the user's code in one line, with the place that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):
        place = f" ({error.filename}, line {error.lineno})"
        return f"SyntaxError: {error.msg}{place}"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' if text else ''}{text}{place}"


def import_path_of(func_or_class: Any) -> str | None:
    """The import path of a class or function; None for what lives in ``__main__``, in a function, or nowhere.

    The name may stand for the class itself or for the ``Deployment`` that a decorator made of it.
    """
    module_name = getattr(func_or_class, "__module__", None)
    qualname = getattr(func_or_class, "__qualname__", "")
    module = sys.modules.get(module_name or "")
    if module is None or "<locals>" in qualname or not is_importable(module):
        return None
    found: Any = module
    for name in qualname.split("."):
        found = getattr(found, name, None)
        if isinstance(found, Deployment):
            found = found.func_or_class
    return f"{module_name}:{qualname}" if found is func_or_class else None


def is_importable(module: ModuleType) -> bool:
    """Whether another process with the same ``sys.path`` would import the same module under this name.

    Not so for ``__main__``, for what was made by hand, and for files that something loaded past ``sys.path``.
    """
    spec = module.__spec__
    if spec is None or module.__name__ == "__main__":
        return False
    if not spec.has_location:
        return spec.origin is not None  # built in or frozen
    path: Sequence[str] | None = None
    found: ModuleSpec | None = None
    name = ""
    for part in spec.name.split("."):
        name = f"{name}.{part}" if name else part
        found = _find(name, path)
        if found is None:
            return False
        path = found.submodule_search_locations
    return found is not None and found.origin == spec.origin


def _find(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """As the import system does, without looking at what is imported already."""
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path)
        if spec is not None:
            return spec
    return None


def pickled_code(func_or_class: Any) -> bytes:
    """A class or function by value, as far as it cannot be imported. Raises TypeError that names it."""
    module = sys.modules.get(getattr(func_or_class, "__module__", ""))
    by_value = module is not None and module.__name__ != "__main__" and not is_importable(module)
    if by_value:  # the rest of its module, too, is out of a replica's reach
        cloudpickle.register_pickle_by_value(module)
    try:
        data: bytes = cloudpickle.dumps(func_or_class)
    except Exception as error:
        raise TypeError(f"{func_or_class!r} cannot be sent to replicas: {type(error).__name__}: {error}") from error
    finally:
        if by_value:
            cloudpickle.unregister_pickle_by_value(module)
    return data


def capture_environment() -> control_pb2.CodeEnvironment:
    """What replicas need to import this program's modules and find its files: ``sys.path`` and the working directory.

    Relative entries, the empty one of an interactive session among them, are resolved now.
    """
    directory = os.getcwd()
    entries = dict.fromkeys(os.path.abspath(os.path.join(directory, entry)) for entry in sys.path)
    return control_pb2.CodeEnvironment(sys_path=list(entries), working_directory=directory)
