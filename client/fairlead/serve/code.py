"""How a user's code reaches replicas: by import path where they can import it, else by value."""

from __future__ import annotations

import os
import sys
from typing import Any

import cloudpickle

from fairlead.serve.deployment import Deployment
from fairlead.v1 import control_pb2


def import_path_of(func_or_class: Any) -> str | None:
    """The import path of a class or function; None for what lives in ``__main__``, in a function, or nowhere.

    The name may stand for the class itself or for the ``Deployment`` that a decorator made of it.
    """
    module_name = getattr(func_or_class, "__module__", None)
    qualname = getattr(func_or_class, "__qualname__", "")
    module = sys.modules.get(module_name or "")
    if module is None or module_name == "__main__" or "<locals>" in qualname or not _importable(module):
        return None
    found: Any = module
    for name in qualname.split("."):
        found = getattr(found, name, None)
        if isinstance(found, Deployment):
            found = found.func_or_class
    return f"{module_name}:{qualname}" if found is func_or_class else None


def _importable(module: Any) -> bool:
    """Whether another process finds the module: it has a file, or is built in."""
    spec = getattr(module, "__spec__", None)
    return spec is not None and spec.origin is not None


def pickled_code(func_or_class: Any) -> bytes:
    """A class or function by value, as far as it cannot be imported. Raises TypeError that names it."""
    try:
        data: bytes = cloudpickle.dumps(func_or_class)
    except Exception as error:
        raise TypeError(f"{func_or_class!r} cannot be sent to replicas: {type(error).__name__}: {error}") from error
    return data


def capture_environment() -> control_pb2.CodeEnvironment:
    """What replicas need to import this program's modules and find its files: ``sys.path`` and the working directory.

    Relative entries, the empty one of an interactive session among them, are resolved now.
    """
    directory = os.getcwd()
    entries = dict.fromkeys(os.path.abspath(os.path.join(directory, entry)) for entry in sys.path)
    return control_pb2.CodeEnvironment(sys_path=list(entries), working_directory=directory)
