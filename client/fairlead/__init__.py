"""Serves Python classes over gRPC: ``from fairlead import serve``.

All but the version is loaded when it is first used: the gateway, which needs the wire protocol only, starts about 50 ms
sooner without it. ``get``, ``wait`` and the rest are what scripts for Ray call on ``ray`` itself.
"""

from importlib import import_module
from typing import Any

from fairlead.version import __version__

__all__ = ["ObjectRef", "__version__", "get", "init", "is_initialized", "serve", "shutdown", "wait"]

_HOMES = {"get": "fairlead.serve.results", "wait": "fairlead.serve.results"} | dict.fromkeys(
    ("ObjectRef", "init", "is_initialized", "shutdown"), "fairlead.serve.cluster"
)


def __getattr__(name: str) -> Any:
    if name == "serve":
        return import_module("fairlead.serve")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fairlead' has no attribute {name!r}")
    return getattr(import_module(home), name)
