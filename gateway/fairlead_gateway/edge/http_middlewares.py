"""Users' middlewares around the HTTP door. They run in the gateway: by its owner's wish, and with the owner's trust."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairlead.v1 import control_pb2
from fairlead_gateway.edge.binding import BindError


def load(path: Path) -> Sequence[Any]:
    """The middlewares that the program which started the instance has left in a file of its own.

    Their modules are found where that program finds them. Raises BindError for a file that somebody else could have
    written, and for what cannot be imported here.
    """
    try:
        status = path.stat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise BindError(f"cannot use the HTTP middlewares: {path} is not this user's alone")
        environment, middlewares = pickle.loads(path.read_bytes())
        for entry in control_pb2.CodeEnvironment.FromString(environment).sys_path:
            if entry not in sys.path:
                sys.path.append(entry)
        found: Sequence[Any] = pickle.loads(middlewares)
    except BindError:
        raise
    except Exception as error:  # whatever importing a user's module raises
        raise BindError(f"cannot use the HTTP middlewares: {type(error).__name__}: {error}") from error
    return found


def wrapped(app: Any, middlewares: Sequence[Any]) -> Any:
    """The application inside of middlewares, in list order: the last one is the outermost, as in classic Ray Serve.

    Raises BindError for one that cannot be made.
    """
    for middleware in middlewares:
        try:
            app = middleware.cls(app, *getattr(middleware, "args", ()), **middleware.kwargs)
        except Exception as error:  # whatever the user's class raises
            name = getattr(middleware.cls, "__name__", middleware.cls)
            raise BindError(f"cannot make the HTTP middleware {name}: {type(error).__name__}: {error}") from error
    return app
