"""The HTTP middlewares that an instance was started with, kept beside its sockets for its gateway workers.

They are code of the user's, so they lie where nobody else can write, like the sockets that take code.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cloudpickle

from fairlead.serve.code import capture_environment
from fairlead.v1 import control_pb2
from fairlead.wire.errors import FairleadError

_FILE = "http_middlewares.pickle"


def keep(directory: Path, middlewares: Sequence[Any]) -> None:
    """Notes the middlewares for the instance whose sockets are in this directory. Raises TypeError if it cannot."""
    path = directory / _FILE
    path.unlink(missing_ok=True)
    if not middlewares:
        return
    try:
        data = pickle.dumps((capture_environment().SerializeToString(), cloudpickle.dumps(tuple(middlewares))))
    except Exception as error:
        raise TypeError(f"the middlewares cannot be sent to the gateway: {type(error).__name__}: {error}") from error
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def kept(directory: Path) -> Sequence[Any]:
    """The middlewares, made again in this process; their modules are found where the program that kept them finds them.

    Raises FairleadError for a file that somebody else could have written, else whatever importing them raises.
    """
    path = directory / _FILE
    if not path.exists():
        return ()
    status = path.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise FairleadError(f"{path} is not this user's alone")
    environment, middlewares = pickle.loads(path.read_bytes())
    for entry in control_pb2.CodeEnvironment.FromString(environment).sys_path:
        if entry not in sys.path:
            sys.path.append(entry)
    found: Sequence[Any] = pickle.loads(middlewares)
    return found
