"""Users' middlewares around the HTTP door. They run in the gateway: by its owner's wish, and with the owner's trust."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairlead.serve import instance_middlewares
from fairlead_gateway.edge.binding import BindError


def load(directory: Path) -> Sequence[Any]:
    """The middlewares of the instance whose sockets are in this directory. Raises BindError that says why it cannot."""
    try:
        return instance_middlewares.kept(directory)
    except Exception as error:  # whatever importing a user's module raises
        raise BindError(f"cannot use the HTTP middlewares: {type(error).__name__}: {error}") from error


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
