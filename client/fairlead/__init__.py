"""Serves Python classes over gRPC: ``from fairlead import serve``.

``serve``, ``get`` and ``wait`` are loaded when they are first used: the gateway, which needs the wire protocol only,
starts about 50 ms sooner without them.
"""

from importlib import import_module
from typing import Any

from fairlead.version import __version__

__all__ = ["__version__", "get", "serve", "wait"]

_HOMES = {"get": "fairlead.serve.results", "wait": "fairlead.serve.results"}


def __getattr__(name: str) -> Any:
    if name == "serve":
        return import_module("fairlead.serve")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fairlead' has no attribute {name!r}")
    return getattr(import_module(home), name)
