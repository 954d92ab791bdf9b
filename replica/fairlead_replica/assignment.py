"""From the controller's assignment to the user's class or function: environment first, then code, then arguments."""

from __future__ import annotations

import functools
import importlib
import os
import pickle
import sys
from typing import Any

import orjson

from fairlead.serve.deployment import Deployment
from fairlead.serve.importing import importing
from fairlead.v1 import control_pb2
from fairlead.wire.errors import DeployFailedError


def apply_environment(environment: control_pb2.CodeEnvironment) -> None:
    """Makes this process look to the user's code like the one that deployed: variables, directory, sys.path."""
    os.environ.update(environment.variables)
    if environment.working_directory:
        os.chdir(environment.working_directory)
    theirs = list(environment.sys_path)
    sys.path[:] = [*theirs, *(entry for entry in sys.path if entry not in theirs)]
    importlib.invalidate_caches()


def load_code(deployment: control_pb2.DeploymentSpec) -> Any:
    """The class or function to run. Raises what importing or unpickling it raises."""
    with importing(deployment.name):
        if deployment.WhichOneof("code") == "import_path":
            code = _import(deployment.import_path)
        else:
            code = pickle.loads(deployment.pickled_code)
        return resolve(code)


def resolve(code: Any) -> Any:
    """The class or function that is meant: by itself, by its import path, or by the Deployment made of it."""
    if isinstance(code, str):
        code = _import(code)
    # A name in a module may be bound to what @serve.deployment made of the class, and that to an import path again.
    while isinstance(code, Deployment):
        code = code.func_or_class
        if isinstance(code, str):
            code = _import(code)
    if not callable(code):
        raise DeployFailedError(f"what is deployed is neither a class nor a function: {code!r}")
    return code


def load_arguments(deployment: control_pb2.DeploymentSpec) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The constructor's arguments, handles to other deployments among them. Raises what unpickling them raises."""
    if not deployment.init_arguments:
        return (), {}
    with importing(deployment.name):
        args, kwargs = pickle.loads(deployment.init_arguments)
    return tuple(args), dict(kwargs)


def user_config(settings: control_pb2.DeploymentSettings) -> Any:
    """What ``reconfigure`` is called with; None: nothing is configured."""
    return orjson.loads(settings.user_config) if settings.user_config else None


def _import(path: str) -> Any:
    module, separator, name = path.partition(":")
    if not separator:
        module, _, name = path.rpartition(".")
    return functools.reduce(getattr, name.split("."), importlib.import_module(module))
